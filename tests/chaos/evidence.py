"""What the audit looks at: what was asked for, what the tasks wrote down, what was done to them, what Redis holds."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis

from tests.chaos.flows import RECORDS
from tests.chaos.load import Node
from tests.store.snapshot import Snapshot

REPORT = 5.0
"""Seconds at most from the acceptance of a run to its code, and from its end to its report, on a busy machine."""


@dataclass(kw_only=True)
class Execution:
    """One execution of user code; `end` is how it ended: ended, failed, stopped, or nothing at all.

    `process` is its worker, a group of processes, `own` the one of them in which it ran.
    """

    id: str
    name: str
    run: int
    attempt: int
    process: int
    own: int
    began: float
    end: str | None = None
    ended: float | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a task says that it created."""

    by: str
    name: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Steering:
    """A call that interrupted, suspended or canceled a signature, from its beginning to its answer."""

    verb: str
    id: str
    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which the server was down, stopped or loading."""

    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Break:
    """A process of a worker (`own`, of `process`) that ended by an error of its own."""

    process: int
    own: int
    at: float
    error: str


@dataclass(frozen=True, kw_only=True)
class Leave:
    """A process that was told to leave in the clean way, and did."""

    process: int
    began: float
    ended: float
    code: int


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """A process that did nothing for longer than a lease, and then went on."""

    process: int
    began: float
    ended: float

    def touches(self, execution: Execution) -> bool:
        """Whether it fell into an execution, between its acceptance and its report."""
        over = execution.ended is not None and execution.ended + REPORT < self.began
        return execution.process == self.process and execution.began - REPORT <= self.ended and not over


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a flow ended, as its caller sees it."""

    status: str
    result: Any = None


@dataclass(kw_only=True)
class Evidence:
    """Everything about one run of the chaos test.

    `whys` counts what unended signatures were found to wait on, `stalls` are those that waited on nothing. `found` is
    what `repair` finds at the end, `left` the keys that are there when all lifetimes are over.
    """

    flows: list[Node]
    executions: list[Execution]
    state: Snapshot
    made: list[Made] = field(default_factory=list[Made])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    deaths: dict[int, float] = field(default_factory=dict[int, float])
    breaks: list[Break] = field(default_factory=list[Break])
    leaves: list[Leave] = field(default_factory=list[Leave])
    freezes: list[Freeze] = field(default_factory=list[Freeze])
    outages: list[Outage] = field(default_factory=list[Outage])
    steering: list[Steering] = field(default_factory=list[Steering])
    whys: Counter[str] = field(default_factory=Counter[str])
    stalls: list[str] = field(default_factory=list[str])
    found: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    epoch: float = field(default_factory=lambda: time.time() - time.monotonic())
    """What the clock of the records shows (seconds) when that of the executions shows 0."""

    def executions_by_id(self) -> dict[str, list[Execution]]:
        """Return the executions of each signature in the order in which they began."""
        found: dict[str, list[Execution]] = defaultdict(list)
        for execution in sorted(self.executions, key=lambda execution: execution.began):
            found[execution.id].append(execution)
        return found


@dataclass(kw_only=True)
class Records:
    """What the tasks and their workers wrote down."""

    executions: list[Execution]
    made: list[Made]
    breaks: list[Break]


def read_records(folder: Path) -> Records:
    """Read what the tasks wrote down."""
    return parse_records((folder / RECORDS).read_text().splitlines())


def parse_records(lines: Iterable[str]) -> Records:
    """Put beginnings and ends together; and what was created, and what broke."""
    found: dict[tuple[str, int], Execution] = {}
    made: list[Made] = []
    breaks: list[Break] = []
    for line in lines:
        about = json.loads(line)
        what, at = about.pop("what"), about.pop("at")
        if what == "broke":
            breaks.append(Break(at=at, **about))
            continue
        place = (about["id"], about["run"])
        if what == "made":
            made.append(Made(by=about["id"], name=about["child"], id=about["made"]))
        elif what == "began":
            assert place not in found, f"run {place} began twice"
            found[place] = Execution(began=at, **about)
        else:
            found[place].end, found[place].ended = what, at
    return Records(executions=list(found.values()), made=made, breaks=breaks)


def take_snapshot(client: redis.Redis, namespace: str) -> Snapshot:
    """Return everything that a namespace holds, streams left out."""
    prefix = f"{{mf:{namespace}}}:"
    keys = [*cast("Iterator[bytes]", client.scan_iter(match=f"{prefix}*", count=1000))]
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.type(key)
        pipeline.pttl(key)
    answers = pipeline.execute()
    kept = [(key, kind, ttl) for key, kind, ttl in zip(keys, answers[::2], answers[1::2], strict=True)]
    kept = [item for item in kept if item[1] not in {b"stream", b"none"}]
    reads: dict[bytes, tuple[str | int, ...]] = {
        b"hash": ("HGETALL",),
        b"list": ("LRANGE", 0, -1),
        b"set": ("SMEMBERS",),
        b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        b"string": ("GET",),
    }
    # Raw replies, as scripts get them.
    raw: list[tuple[bytes, bytes, int, Any]] = []
    for key, kind, ttl in kept:
        command, *rest = reads[kind]
        value = cast("object", client.execute_command(command, key, *rest))
        raw.append((key, kind, ttl, _flat(value)))
    return Snapshot.of(raw, prefix)


def _flat(value: object) -> object:
    """Return a reply as a flat list, whatever redis-py made of it."""
    if isinstance(value, dict):
        pairs = cast("dict[bytes, bytes]", value)
        return [item for pair in pairs.items() for item in pair]
    items = cast("list[object]", value)
    if isinstance(value, list) and items and isinstance(items[0], (tuple, list)):
        scored = cast("list[tuple[bytes, float]]", items)
        return [item for name, score in scored for item in (name, str(score).encode())]
    return items
