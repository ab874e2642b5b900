"""The store: every state change of flows, each one atomic script."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's name
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's name
    TryAgainError,
)

from mageflow import errors
from mageflow.config import MageflowConfig
from mageflow.flow.event import AttemptFailed, Failed, Replaced, Succeeded
from mageflow.flow.ids import key_of, new_id
from mageflow.flow.signature import MAX_DEPTH, Asked, Change, Claim, Members, NewSignature, Run
from mageflow.flow.status import STATUS_OF_LETTER
from mageflow.flow.task import TaskDefinition
from mageflow.store import scripts
from mageflow.store.codec import Answer, Record, decode_answer, decode_record, text
from mageflow.store.keys import Keys
from mageflow.store.link import Link, RedisSource, address_of

logger = logging.getLogger("mageflow.store")

CHUNK = 100
"""Records that one script writes at the most."""
_RETRY_FOR = 5.0
_LONGEST_PAUSE = 1.0
_DISK_TIMEOUT = 10_000
_PASSING = (
    *(ConnectionError, TimeoutError, OSError),
    *(ReadOnlyError, OutOfMemoryError, MasterDownError, ClusterDownError, TryAgainError),
)
_PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "LOADING")


def _passing(error: Exception) -> bool:
    """Whether the same command may succeed later."""
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_CODES)


class Store:
    """Redis or Valkey as the place of flows.

    A call is repeated while Redis cannot be reached, for 5 s at the most (reports of runs: until it answers); each
    carries an operation id, so a repeat changes nothing.
    """

    def __init__(self, source: RedisSource, config: MageflowConfig) -> None:
        self.config = config
        self.keys = Keys(config.namespace)
        self.address = address_of(source)
        self._link = Link(source)
        self._durable = Link(source) if config.durability == "fsync" else None
        self._operations, self._counter = secrets.token_urlsafe(6), itertools.count()
        self._settings = scripts.settings_argument(config)

    async def connect(self) -> None:
        """Reach the server once.

        Raises:
            StoreUnavailableError: it cannot be reached, is older than Redis 6.2, or its records are of a newer version.
        """
        try:
            info = await self._info("server")
        except (RedisError, OSError) as error:
            raise errors.StoreUnavailableError(self.address, f"cannot be reached: {error}") from error
        version = info.get("redis_version", "0.0")
        if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
            raise errors.StoreUnavailableError(self.address, f"version {version} is too old, 6.2 is needed")
        await self._send(scripts.READ)

    async def check_eviction(self) -> None:
        """Refuse a server that may evict records.

        Raises:
            StoreUnavailableError: its policy is not `noeviction`.
        """
        policy = (await self._info("memory")).get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not self.config.allow_eviction:
            reason = f"maxmemory-policy is {policy}; flows need noeviction (or MageflowConfig(allow_eviction=True))"
            raise errors.StoreUnavailableError(self.address, reason)

    async def _info(self, section: str) -> dict[str, str]:
        lines = text(await self._link.call("INFO", section)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()
        if self._durable is not None:
            await self._durable.close()

    async def commit(self, changes: Sequence[Change]) -> Answer:
        """Write a block of changes: all of it or nothing. One round trip, above 100 new records one more for each 100.

        Raises:
            SignatureNotFoundError, AlreadyInContainerError, CycleError, TooDeepError, AlreadyStartedError,
            IllegalMoveError, SwarmIsClosedError, SwarmIsCanceledError, TooManyTasksError: nothing was written.
        """
        heights: dict[str, int] = {}
        parts = [change for change in changes if _is_part(change)]
        if len(parts) <= CHUNK:
            return await self._commit(changes, heights)
        first = next((part for part in parts if isinstance(part, NewSignature)), None)
        draft = _draft_of(changes)
        if first is not None and await self.command("EXISTS", self.keys.record(first.id)):
            if await self.command("ZSCORE", self.keys.drafts, draft) is None:
                return await self._commit([first, *(change for change in changes if isinstance(change, Asked))], {})
            await self._take_back(draft)
        rest = [change for change in changes if not _is_part(change)]
        try:
            for start in range(0, len(parts), CHUNK):
                answer = await self._commit(parts[start : start + CHUNK], heights, ("draft", draft, int(start > 0)))
                for container, height in answer.extra:
                    heights[text(container)] = max(height, heights.get(text(container), 1))
            roots = [part.id for part in parts if isinstance(part, NewSignature) and part.container is None]
            return await self._commit(rest, heights, ("publish", draft, len(roots), *roots))
        except errors.MageflowError:
            await self._take_back(draft)
            raise

    async def _take_back(self, draft: str) -> None:
        """Undo the parts of a block that was refused; where Redis is away the sweeper does it later."""
        with contextlib.suppress(errors.StoreUnavailableError):
            while (await self.continue_(f"!g:{draft}")).ready.continues:
                pass

    async def _commit(
        self, changes: Sequence[Change], heights: Mapping[str, int], prefix: Sequence[scripts.Argument] = ()
    ) -> Answer:
        arguments: list[scripts.Argument] = [*prefix]
        for change in changes:
            height = heights.get(change.id, 1) if isinstance(change, NewSignature) else 1
            arguments.extend(scripts.change_arguments(change, height))
        answer = await self._run(scripts.COMMIT, *arguments, link=self._durable)
        await self._wait_for_disk()
        if answer.status == "refused":
            code, identifier, detail = map(text, answer.extra)
            if code == "too_late" and any(isinstance(change, Run) and change.id == identifier for change in changes):
                code = "already_started"  # the options of a second start
            raise self._refusal(code, identifier, detail)
        return answer

    async def start(
        self, identifier: str, dispatch: int, attempt: int, worker: str, manager_run: str, *, once: bool = False
    ) -> Answer:
        """A delivery asks to run: `run` with the number of the run, or why not. One round trip.

        With `once` it fails when its worker is lost, and does not run again.
        """
        return await self._run(scripts.START, identifier, dispatch, attempt, worker, manager_run, int(once))

    async def turned_away(self, identifier: str) -> Answer:
        """A delivery was told that its signature is held or canceled. One round trip."""
        return await self._run(scripts.TURNED_AWAY, identifier)

    async def apply(self, event: Succeeded | Failed | Replaced) -> Answer:
        """Record the outcome of a run and what follows from it. One round trip; repeated until Redis answers."""
        match event:
            case Succeeded():
                outcome = ("d", event.result, event.choice)
            case Failed():
                outcome = ("f", event.error, "")
            case Replaced():
                outcome = ("r", event.by, int(event.checked))
        return await self._run(scripts.FINISH, event.id, event.run, *outcome, patient=True)

    async def attempt_failed(self, event: AttemptFailed) -> Answer:
        """Record that the task manager will run another attempt. One round trip; repeated until Redis answers."""
        delay = int(event.delay * 1000)
        arguments = (event.id, event.run, event.attempts_used, delay, event.error)
        return await self._run(scripts.ATTEMPT_FAILED, *arguments, patient=True)

    async def stopped(self, identifier: str, run: int) -> Answer:
        """The run was told to stop and is over. One round trip; repeated until Redis answers."""
        return await self._run(scripts.STOPPED, identifier, run, patient=True)

    async def withdrawn(self, identifier: str, run: int) -> Answer:
        """The run was canceled at the task manager and is over. One round trip; repeated until Redis answers."""
        return await self._run(scripts.WITHDRAWN, identifier, run, patient=True)

    async def refused(self, identifier: str, dispatch: int, error: bytes) -> Answer:
        """A row cannot be dispatched, ever. One round trip; repeated until Redis answers."""
        return await self._run(scripts.REFUSED, identifier, dispatch, error, patient=True)

    async def offered(self, rows: Sequence[tuple[str, int, str]], start_timeout: float) -> None:
        """Rows (id, dispatch, the manager's id of the run) were handed to the task manager. One round trip.

        It is shared with others of the tick.
        """
        flat = [value for row in rows for value in row]
        await self._send(scripts.OFFERED, int(start_timeout * 1000), *flat)

    async def in_hand(self, rows: Sequence[tuple[str, int]]) -> None:
        """Rows (id, dispatch) are still being handed to the task manager: for 2 s no sweeper offers them.

        One round trip, shared with others of the tick.
        """
        await self._send(scripts.IN_HAND, *(value for row in rows for value in row))

    async def sweep(self, *, drained: Iterable[str], start_timeout: float, probes: bool = False) -> Answer:
        """Claim overdue rows, end lapsed leases, mark what expired. One round trip.

        Args:
            drained: tasks of which nothing that was submitted waits to be taken by a worker.
            start_timeout: seconds after which an offered row is looked into.
            probes: overdue rows are not offered again but returned, to be asked for; see `probed`.
        """
        names = scripts.SEPARATOR.join(scripts.short_name(name) for name in drained)
        return await self._run(scripts.SWEEP, names, int(start_timeout * 1000), int(probes))

    async def probed(self, findings: Sequence[tuple[str, int, str, bytes]], start_timeout: float) -> Answer:
        """Rows (id, dispatch, letter, result or error) were asked for: leave, gone, done, failed or canceled.

        One round trip.
        """
        flat = [value for finding in findings for value in finding]
        return await self._run(scripts.PROBED, int(start_timeout * 1000), *flat)

    async def manager_run(self, identifier: str) -> str:
        """Return the task manager's id of the newest run of a task, or nothing. Two round trips."""
        container = await self.command("HGET", self.keys.record(identifier), "c")
        home = text(container) or identifier
        return text(await self.command("HGET", self.keys.payloads(home), f"{identifier}:i"))

    async def continue_(self, row: str) -> Answer:
        """Work off a part of a continue row. One round trip."""
        return await self._run(scripts.CONTINUE, row)

    async def read(self, ids: Sequence[str]) -> list[Record | None]:
        """Return the records of these ids in order. One round trip for each 100.

        Raises:
            BrokenRecordError: a record is not what we wrote.
        """
        pages = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        replies = await asyncio.gather(*(self._page(page) for page in pages))
        found = [reply for page in replies for reply in page]
        namespace = self.config.namespace
        return [decode_record(i, reply, key_of(namespace, i)) for i, reply in zip(ids, found, strict=True)]

    async def _page(self, ids: Sequence[str]) -> list[Any]:
        """Read some records at once; where one is no record at all, one by one, to say which."""
        try:
            return await self._send(scripts.READ, *ids)
        except errors.BrokenRecordError as error:
            if len(ids) == 1:
                raise errors.BrokenRecordError(key_of(self.config.namespace, ids[0]), error.reason) from error
            return [reply for identifier in ids for reply in await self._page([identifier])]

    async def rearm(self, ids: Sequence[str]) -> Answer:
        """Let go on what waits on nothing, free slots that nothing holds; `extra` names them. One round trip."""
        return await self._run(scripts.REARM, *ids)

    async def why(self, identifier: str) -> tuple[str, str, float] | None:
        """Return what a signature waits on: kind, name, since when; `None` if it has ended. One round trip.

        Raises:
            SignatureNotFoundError: there is no record.
        """
        reply = await self._send(scripts.WHY, identifier)
        if reply is None:
            raise errors.SignatureNotFoundError(key_of(self.config.namespace, identifier))
        return (text(reply[0]), text(reply[1]), int(reply[2] or 0) / 1000) if reply else None

    async def command(self, *command: Any) -> Any:
        """Send one command that may be repeated."""
        return await self._retried(lambda: self._link.call(*command), patient=False)

    async def send(self, *command: Any) -> Any:
        """Send one command once, on the pipeline of the flows.

        Raises:
            RedisError: what the server answered, or that it could not be reached.
        """
        return await self._link.call(*command)

    async def ride(self, command: Callable[[], tuple[Any, ...]], within: float) -> Any:
        """Send one command once, with the next one of the flows or after `within` seconds.

        Raises:
            RedisError: what the server answered, or that it could not be reached.
        """
        return await self._link.ride(command, within)

    async def register(self, definitions: Iterable[TaskDefinition]) -> None:
        """Make task names known in the namespace. One round trip."""
        flat = [value for task in definitions for value in (task.name, task.encode())]
        if flat:
            await self.command("HSET", self.keys.tasks, *flat)

    async def definition(self, name: str) -> TaskDefinition | None:
        """Return a task that any process of the namespace registered. One round trip."""
        data = await self.command("HGET", self.keys.tasks, name)
        return TaskDefinition.decode(name, data) if data else None

    async def task_names(self) -> list[str]:
        """Return the names that are known in the namespace. One round trip."""
        return sorted(text(name) for name in await self.command("HKEYS", self.keys.tasks))

    async def _wait_for_disk(self) -> None:
        """Wait until what the durable connection wrote is on the disk of the server; others go on meanwhile."""
        durable = self._durable
        if durable is None:
            return
        try:
            [local, _] = await self._retried(lambda: durable.call("WAITAOF", 1, 0, _DISK_TIMEOUT), patient=False)
        except errors.BrokenRecordError as error:
            raise errors.StoreUnavailableError(self.address, f'durability="fsync" is not possible: {error}') from error
        if not local:
            raise errors.StoreUnavailableError(self.address, f"the disk did not confirm within {_DISK_TIMEOUT} ms")

    async def _run(
        self, script: scripts.Script, *arguments: scripts.Argument, patient: bool = False, link: Link | None = None
    ) -> Answer:
        return decode_answer(await self._send(script, *arguments, patient=patient, link=link))

    async def _send(
        self, script: scripts.Script, *arguments: scripts.Argument, patient: bool = False, link: Link | None = None
    ) -> Any:
        operation, keys = f"{self._operations}{next(self._counter):x}", [self.keys.outbox]
        return await self._retried(
            lambda: (link or self._link).run(script, keys, operation, self._settings, *arguments), patient=patient
        )

    async def _retried(self, send: Callable[[], Awaitable[Any]], *, patient: bool) -> Any:
        """Send until Redis answers; what a server that is loading, full or read-only says is no answer to a report."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + _RETRY_FOR, 0.05
        while True:
            try:
                return await send()
            except (RedisError, OSError) as error:
                if str(error).startswith("NEWER"):
                    raise errors.StoreUnavailableError(self.address, self._newer(str(error))) from error
                if not _passing(error):
                    raise errors.BrokenRecordError(self.keys.everything, str(error)) from error
                if self._link.closed or (not patient and loop.time() > deadline):
                    passing = not self._link.closed
                    raise errors.StoreUnavailableError(self.address, f"no answer: {error}", passing=passing) from error
                logger.warning("Redis at %s does not answer, trying again: %s", self.address, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _newer(self, reply: str) -> str:
        version = reply.removeprefix("NEWER ")
        return (
            f"the records of namespace {self.config.namespace!r} have schema version {version}, this process "
            f"understands {scripts.SCHEMA}: upgrade it; nothing was changed"
        )

    def _refusal(self, code: str, identifier: str, detail: str) -> errors.MageflowError:
        key = key_of(self.config.namespace, identifier)
        where = key_of(self.config.namespace, detail)
        refusals: dict[str, errors.MageflowError] = {
            "not_found": errors.SignatureNotFoundError(key),
            "already_in_container": errors.AlreadyInContainerError(key, where),
            "already_started": errors.AlreadyStartedError(key),
            "too_late": errors.AlreadyStartedError(key, str(STATUS_OF_LETTER.get(detail, "started"))),
            "running": errors.TaskAlreadyRunningError(key),
            "broken": errors.BrokenRecordError(key, detail),
            "cycle": errors.CycleError(key, where),
            "too_deep": errors.TooDeepError(key, MAX_DEPTH),
            "illegal": errors.IllegalMoveError(key, "move", detail),
            "not_a_swarm": errors.IllegalMoveError(key, "change", "it is not a swarm"),
            "swarm_closed": errors.SwarmIsClosedError(key),
            "swarm_canceled": errors.SwarmIsCanceledError(key),
        }
        return refusals.get(code) or errors.TooManyTasksError(key, int(detail))


def _is_part(change: Change) -> bool:
    """Whether a change can be written before the block is complete: nothing leads to it yet."""
    return isinstance(change, (NewSignature, Claim, Members))


def _draft_of(changes: Sequence[Change]) -> str:
    """Return the id under which a large block is written: its outermost new container."""
    for change in reversed(changes):
        if isinstance(change, NewSignature) and change.container is None:
            return change.id
    return new_id()
