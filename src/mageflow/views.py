"""Read-only queries: what the CLI, the web page and the signatures show."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mageflow.flow.ids import item_id, key_of
from mageflow.flow.status import Status
from mageflow.store.codec import Record, text
from mageflow.store.store import CHUNK, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Counts of a swarm's members. `per_second` is the mean since its start, `seconds_left` what it means for the rest.

    `active` counts members that have started and not ended; `pending` those that have not.
    """

    total: int
    pending: int
    active: int
    done: int
    failed: int
    canceled: int
    per_second: float
    seconds_left: float | None


def progress_of(record: Record) -> Progress:
    """Return the progress that a swarm's record tells."""
    total, active = record.number("nm"), record.number("na")
    done, failed, canceled = (record.number(name) for name in ("nd", "nf", "nc"))
    ended = done + failed + canceled
    started = record.time("t1")
    until = record.time("t2") or time.time()
    elapsed = max(until - started, 1e-3) if started else 0.0
    rate = (done + failed) / elapsed if elapsed else 0.0
    left = (total - ended) / rate if rate else None
    return Progress(
        total=total,
        pending=0 if record.status.ended else max(0, total - ended - active),
        active=active,
        done=done,
        failed=failed,
        canceled=canceled,
        per_second=rate,
        seconds_left=0.0 if record.status.ended or ended >= total else left,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The one thing that an unended signature waits on.

    Args:
        kind: `mark` (`on`: the key that carries it), `run` (the worker), `time` (its start, in ISO 8601), `row` (of
            the outbox), `slot` (of that swarm), `member` (its own, or the one before it), `open gate`, `start` (of
            itself, of its container, or a firing).
        on: its name.
        since: seconds since the epoch.
    """

    kind: str
    on: str
    since: float


async def why(store: Store, identifier: str) -> Wait | None:
    """Return what a signature waits on; `None` when it has ended. One round trip.

    Raises:
        SignatureNotFoundError: there is no record.
    """
    found = await store.why(identifier)
    if found is None:
        return None
    kind, on, since = found
    if kind == "time":
        on = datetime.fromtimestamp(int(on) / 1000, tz=UTC).isoformat(timespec="milliseconds")
    named = kind in {"mark", "slot", "member", "open gate"} or (kind == "start" and on != "firing")
    return Wait(kind=kind, on=key_of(store.config.namespace, on) if named else on, since=since)


async def members(store: Store, container: str, status: Status | None = None) -> AsyncIterator[Record]:
    """Yield the members of a container in order; the items of a map too. Two round trips for each 100.

    Of a map it looks at every item, where only the failed or the active are asked for at those that have a record.
    """
    async for page in _pages(store, container, status):
        for record in await store.read(page):
            if record is not None and status in (None, record.status):
                yield record


async def _pages(store: Store, container: str, status: Status | None) -> AsyncIterator[list[str]]:
    start = 0
    while page := await store.command("LRANGE", store.keys.members(container), start, start + CHUNK - 1):
        start += len(page)
        yield [text(member) for member in page]
    [record] = await store.read([container]) if start == 0 else [None]
    if record is None or "it" not in record.fields:
        return
    if status in {Status.FAILED, Status.ACTIVE}:
        # One may be done, and have no record any more, while this goes on: by index, not by place.
        key, above = store.keys.recorded_items(container), "-inf"
        while page := await store.command("ZRANGEBYSCORE", key, above, "+inf", "LIMIT", 0, CHUNK):
            yield [text(item) for item in page]
            above = f"({text(page[-1]).rpartition('#')[2]}"
        return
    total = record.number("nm")
    for first in range(0, total, CHUNK):
        yield [item_id(container, index) for index in range(first, min(first + CHUNK, total))]
