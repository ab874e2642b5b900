"""Signatures as users hold them: described, persisted, runnable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from typing_extensions import override

from mageflow.config import SwarmConfig
from mageflow.errors import (
    FlowCanceledError,
    FlowFailedError,
    OutsideTransactionError,
    SignatureNotFoundError,
    TaskAndMsgsDontMatchForSwarmError,
)
from mageflow.flow.ids import key_of, new_id
from mageflow.flow.payload import Json, dump, load, merge, message_of, plain
from mageflow.flow.signature import Add, Change, Close, Members, Message, NewSignature, Patch, Run
from mageflow.flow.status import Kind, Status
from mageflow.planner import patch_line
from mageflow.store.codec import Record
from mageflow.views import Progress, members, progress_of

if TYPE_CHECKING:
    from mageflow.client import Mageflow

In = TypeVar("In")
Out = TypeVar("Out")

SNAPSHOT = 1000
"""Members that a snapshot lists at the most."""
_COPIED_SETTINGS = ("mc", "sf", "mt", "os", "cl", "nm")


class FlowHandle(Generic[Out]):
    """A started flow: wait for its result, ask for its status."""

    def __init__(self, client: Mageflow, identifier: str) -> None:
        self._client = client
        self._id = identifier
        self.key = key_of(client.config.namespace, identifier)

    async def status(self) -> Status:
        """Return the effective status. One round trip.

        Raises:
            SignatureNotFoundError: the record is gone: it was kept `done_ttl` after the end.
        """
        record = await self._client.read(self._id)
        return record.status

    async def result(self, timeout: float | None = None) -> Out:  # noqa: ASYNC109 - the flow goes on: not a cancel scope
        """Wait for the end and return the result; a swarm's is the list of its members' results.

        Args:
            timeout: seconds; the flow goes on when they are over.

        Raises:
            FlowFailedError: it failed; carries the original error.
            FlowCanceledError: it was canceled.
            ResultTimeoutError: not within `timeout`.
            SignatureNotFoundError: the record is gone.
        """
        record = await self._client.wait(self._id, timeout)
        if record is None:
            raise SignatureNotFoundError(self.key)
        if record.status is Status.CANCELED:
            raise FlowCanceledError(self.key, record.fields.get("re", "canceled"))
        if record.status is Status.FAILED:
            error = await self._client.error_of(self._id)
            failed = await self._client.failed_key_of(self._id)
            raise FlowFailedError(self.key, error["type"], error["message"], error["traceback"], failed)
        return load(await self._client.result_of(self._id), self.key)


class Kwargs(Mapping[str, Any]):
    """The bound arguments of a signature as last read; changes go through `aupdate` and `apop`."""

    def __init__(self, signature: Signature[Any, Any], values: Json) -> None:
        self._signature = signature
        self._values = values

    @override
    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    @override
    def __repr__(self) -> str:
        return f"Kwargs({self._values!r})"

    def __setitem__(self, name: str, value: object) -> NoReturn:
        raise OutsideTransactionError(self._signature.key)

    def update(self, *_: object, **__: object) -> NoReturn:
        """Refuse: outside a transaction only `await aupdate(...)` changes arguments."""
        raise OutsideTransactionError(self._signature.key)

    async def aupdate(self, values: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Set arguments. One round trip.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: nothing was changed.
            AlreadyStartedError: the task runs already.
        """
        changed = {**(values or {}), **kwargs}
        await self._signature.patch_kwargs(changed)
        self._values = {**self._values, **plain(changed, "an argument")}

    async def apop(self, name: str, *default: Any) -> Any:
        """Remove an argument and return it. One round trip.

        Raises:
            KeyError: there is none and no default was given.
        """
        if name not in self._values:
            await self._signature.arefresh()
            self._values = dict(self._signature.kwargs)
        if name not in self._values:
            if default:
                return default[0]
            raise KeyError(name)
        await self._signature.patch_kwargs(None, dropped=name)
        return self._values.pop(name)


class Signature(Generic[In, Out]):
    """A persisted, runnable description of work. Attributes are snapshots of the last load."""

    kind: Kind

    def __init__(self, client: Mageflow, record: Record, members: Sequence[str] = ()) -> None:
        self._client = client
        self._record = record
        self._members = [(member, Status.PENDING) for member in members[:SNAPSHOT]]
        self._kwargs = Kwargs(self, record.body.kwargs)

    @property
    def id(self) -> str:
        """The ULID in the key."""
        return self._record.id

    @property
    def key(self) -> str:
        """`mf:<namespace>:<ulid>`."""
        return self._key(self.id)

    @property
    def task_name(self) -> str | None:
        """The task that it runs; of a container, its name."""
        return self._record.body.name

    @property
    def task_identifiers(self) -> Json:
        """What the user calls it by."""
        return self._record.body.identifiers

    @property
    def task_status(self) -> Status:
        """The effective status."""
        return self._record.status

    @property
    def creation_time(self) -> datetime:
        """When it was created."""
        return datetime.fromtimestamp(self._record.time("t0") or 0.0, tz=UTC)

    @property
    def kwargs(self) -> Kwargs:
        """The bound arguments."""
        return self._kwargs

    @property
    def success_callbacks(self) -> tuple[str, ...]:
        """Keys of the templates that start on success."""
        return tuple(self._key(item) for item in self._record.success)

    @property
    def error_callbacks(self) -> tuple[str, ...]:
        """Keys of the templates that start on failure."""
        return tuple(self._key(item) for item in self._record.failure)

    @property
    def handle(self) -> FlowHandle[Out]:
        """Its handle, started or not."""
        return FlowHandle(self._client, self.id)

    async def arefresh(self) -> None:
        """Read it again. One round trip.

        Raises:
            SignatureNotFoundError: it is gone.
        """
        self._record = await self._client.read(self.id)
        self._kwargs = Kwargs(self, self._record.body.kwargs)

    async def aio_run_no_wait(
        self, msg: In | Mapping[str, Any] | None = None, *, options: Mapping[str, Any] | None = None
    ) -> FlowHandle[Out]:
        """Start it and return a handle. One round trip, and one to the task manager.

        Args:
            msg: a model, a mapping or nothing.
            options: options of the task manager for this start.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: the message is wrong; nothing was started.
            AlreadyStartedError: it was started before.
            IllegalMoveError: its container starts it.
            SignatureNotFoundError: it is gone.
        """
        message = message_of(msg, f"the message of {self.key}")
        await self._check_message(message)
        changes: list[Change] = []
        if options:
            line = patch_line(self._limit, self.key, options=plain(options, "an option"))
            changes.append(Patch(id=self.id, line=line))
        if msg is not None:
            changes.append(Message(id=self.id, message=dump(message, f"the message of {self.key}", self._limit)))
        await self._client.commit([*changes, Run(id=self.id)])
        return self.handle

    async def aio_run(
        self,
        msg: In | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the flow goes on: not a cancel scope
        options: Mapping[str, Any] | None = None,
    ) -> Out:
        """Start it and return its result; see `aio_run_no_wait` and `FlowHandle.result`.

        Raises:
            FlowFailedError, FlowCanceledError, ResultTimeoutError: how it ended, or did not.
        """
        handle = await self.aio_run_no_wait(msg, options=options)
        return await handle.result(timeout)

    async def aduplicate(self) -> Signature[In, Out]:
        """Return a copy under a new key, with all its members. Two round trips for each 100 of them."""
        [copy] = await self.aduplicate_many(1)
        return copy

    async def aduplicate_many(self, count: int) -> list[Signature[In, Out]]:
        """Return so many copies; see `aduplicate`."""
        record = await self._client.read(self.id)
        changes: list[Change] = []
        copies = [await self._copied(record, new_id(), None, None, changes) for _ in range(count)]
        await self._client.commit(changes)
        found = await (await self._client.store()).read(copies)
        return [self._client.signature(item) for item in found if item is not None]

    async def patch_kwargs(self, changed: Mapping[str, Any] | None, *, dropped: str | None = None) -> None:
        """Change bound arguments; users call `kwargs.aupdate` and `kwargs.apop`."""
        if changed and self.kind is Kind.TASK and self.task_name is not None:
            await self._client.check_kwargs(self.task_name, changed)
        where = f"an argument of {self.key}"
        line = patch_line(self._limit, where, changed=plain(changed, where) if changed else None, dropped=dropped)
        await self._client.commit([Patch(id=self.id, line=line)])

    async def _copied(
        self, record: Record, target: str, container: str | None, index: int | None, changes: list[Change]
    ) -> str:
        """Append the changes that copy a record and what is below it."""
        settings: dict[str, int | str] = {
            name: record.fields[name] for name in _COPIED_SETTINGS if name in record.fields
        }
        if record.kind is not Kind.TASK:
            ids: list[str] = []
            async for member in members(await self._client.store(), record.id):
                position = len(ids) if record.kind is Kind.CHAIN else None
                ids.append(await self._copied(member, new_id(), target, position, changes))
            settings["nm"] = len(ids)
            waiting = record.kind is Kind.SWARM
            pages = [ids[start : start + 100] for start in range(0, len(ids), 100)]
            changes.extend(Members(container=target, ids=page, waiting=waiting) for page in pages)
        changes.append(
            NewSignature(
                id=target,
                kind=record.kind,
                body=record.body.encode(self.key, self._limit),
                task_name=record.body.name if record.kind is Kind.TASK else None,
                container=container,
                index=index,
                success=record.success,
                failure=record.failure,
                settings=settings,
            )
        )
        return target

    async def _check_message(self, message: Json) -> None:
        """Check what can be checked before a start; nothing, here."""

    @property
    def _limit(self) -> int:
        return self._client.config.payload_limit

    def _key(self, identifier: str) -> str:
        return key_of(self._client.config.namespace, identifier)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_name or ''} {self.key} {self.task_status.value}>"


class TaskSignature(Signature[In, Out]):
    """A task with bound arguments and callbacks."""

    kind = Kind.TASK

    @override
    async def _check_message(self, message: Json) -> None:
        if self._record.container is None:
            await self._client.check_first_message(self._record, merge(self._record.body.kwargs, message))


class ChainSignature(Signature[In, Out]):
    """Members one after the other; each gets the result of the one before."""

    kind = Kind.CHAIN

    @override
    async def _check_message(self, message: Json) -> None:
        """Check the message of the first task, through chains that come first in chains."""
        record, message = self._record, merge(message, self._record.body.kwargs)
        while record.kind is Kind.CHAIN:
            store = await self._client.store()
            first = await store.command("LINDEX", store.keys.members(record.id), 0)
            if first is None:
                return
            record = await self._client.read(first.decode())
            message = merge(message, record.body.kwargs)
        if record.kind is Kind.TASK:
            await self._client.check_first_message(record, message)


class SwarmSignature(Signature[In, Out]):
    """Members side by side, bounded, and it can grow while it runs."""

    kind = Kind.SWARM

    @override
    async def arefresh(self) -> None:
        """Read it again with its first 1000 members. One round trip, and two for each 100 members."""
        await super().arefresh()
        first = _limited(members(await self._client.store(), self.id), SNAPSHOT)
        self._members = [(record.id, record.status) async for record in first]

    def _of_status(self, *statuses: Status) -> tuple[str, ...]:
        return tuple(self._key(member) for member, status in self._members if not statuses or status in statuses)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of the members, in the order in which they were added; the first 1000."""
        return self._of_status()

    @property
    def finished_tasks(self) -> tuple[str, ...]:
        """Keys of the members that are done."""
        return self._of_status(Status.DONE)

    @property
    def failed_tasks(self) -> tuple[str, ...]:
        """Keys of the members that failed or were canceled."""
        return self._of_status(Status.FAILED, Status.CANCELED)

    @property
    def current_running_tasks(self) -> tuple[str, ...]:
        """Keys of the members that have started and not ended."""
        return self._of_status(Status.ACTIVE)

    @property
    def tasks_left_to_run(self) -> tuple[str, ...]:
        """Keys of the members that have not started."""
        return self._of_status(Status.PENDING)

    @property
    def is_swarm_closed(self) -> bool:
        """Whether no more members can be added."""
        return self._record.fields.get("cl") == "1" or self._record.status.ended

    @property
    def config(self) -> SwarmConfig:
        """Its settings."""
        fields = self._record.fields
        return SwarmConfig(
            max_concurrency=int(fields["mc"]) if "mc" in fields else None,
            stop_after_n_failures=int(fields["sf"]) if "sf" in fields else None,
            max_task_allowed=int(fields["mt"]) if "mt" in fields else None,
            on_stop="interrupt" if fields.get("os") == "interrupt" else "finish",
        )

    async def is_swarm_done(self) -> bool:
        """Whether every member has ended and the success callbacks have fired. One round trip."""
        return (await self._client.read(self.id)).status is Status.DONE

    async def progress(self) -> Progress:
        """Return the counts of its members and what is left. One round trip."""
        return progress_of(await self._client.read(self.id))

    async def members(
        self, status: Status | str | None = None, after: int = 0, limit: int = SNAPSHOT
    ) -> tuple[str, ...]:
        """Return keys of members in order, of one status if given: `limit` of them, the first `after` left out."""
        wanted = None if status is None else Status(status)
        matching = _limited(members(await self._client.store(), self.id, wanted), after + limit)
        found = [self._key(record.id) async for record in matching]
        return tuple(found[after:])

    async def add_task(self, task: object, *, close_on_max_task: bool = True) -> Signature[Any, Any]:
        """Register a member; it becomes ready by its own run, or by a close. Two round trips.

        Args:
            task: a signature, a key, a name, a task object or a function.
            close_on_max_task: reaching `max_task_allowed` closes the swarm.

        Raises:
            SwarmIsClosedError, SwarmIsCanceledError, TooManyTasksError, AlreadyInContainerError: nothing was added.
        """
        [member] = await self._add([task], [None], run=False, close_on_max=close_on_max_task)
        return member

    async def aio_run_in_swarm(
        self, tasks: object, msg: object = None, *, close_on_max_task: bool = True
    ) -> list[Signature[Any, Any]]:
        """Add one or more members and start them with the same message, in one step; see `add_task`."""
        listed: list[object] = list(tasks) if isinstance(tasks, (list, tuple)) else [tasks]  # pyright: ignore[reportUnknownArgumentType] - whatever users give
        return await self.aio_run_tasks_in_swarm(listed, [msg] * len(listed), close_on_max_task=close_on_max_task)

    async def aio_run_tasks_in_swarm(
        self, tasks: Sequence[object], msgs: Sequence[object], *, close_on_max_task: bool = True
    ) -> list[Signature[Any, Any]]:
        """Add members and start each with its own message, in one step; see `add_task`.

        Raises:
            TaskAndMsgsDontMatchForSwarmError: not as many messages as tasks.
        """
        if len(tasks) != len(msgs):
            raise TaskAndMsgsDontMatchForSwarmError(self.key, len(tasks), len(msgs))
        where = f"a message for swarm {self.key}"
        messages = [None if msg is None else dump(message_of(msg, where), where, self._limit) for msg in msgs]
        return await self._add(tasks, messages, run=True, close_on_max=close_on_max_task)

    async def close_swarm(self) -> None:
        """Take no more members; on a running swarm every registered member becomes ready. One round trip."""
        await self._client.commit([Close(id=self.id)])
        self._record.fields["cl"] = "1"

    def adding(self) -> _Adding:
        """Return a context in which members are added; its exit closes the swarm, also after an error."""
        return _Adding(self)

    async def _add(
        self, tasks: Iterable[object], messages: Sequence[bytes | None], *, run: bool, close_on_max: bool
    ) -> list[Signature[Any, Any]]:
        ids, changes = await (await self._client.planner()).additions(self.id, tasks, messages)
        if not ids:
            return []
        await self._client.commit([*changes, Add(swarm=self.id, ids=ids, run=run, close_on_max=close_on_max)])
        found = await (await self._client.store()).read(ids)
        return [self._client.signature(record) for record in found if record is not None]


class _Adding:
    """`async with swarm.adding():`."""

    def __init__(self, swarm: SwarmSignature[Any, Any]) -> None:
        self._swarm = swarm

    async def __aenter__(self) -> SwarmSignature[Any, Any]:
        return self._swarm

    async def __aexit__(self, *error: object) -> None:
        await self._swarm.close_swarm()


async def _limited(records: AsyncIterator[Record], count: int) -> AsyncIterator[Record]:
    seen = 0
    async for record in records:
        seen += 1
        if seen > count:
            return
        yield record
