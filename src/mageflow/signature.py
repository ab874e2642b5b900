"""Signatures as users hold them: described, persisted, runnable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import override

from mageflow.arguments import Kwargs
from mageflow.config import PauseActionTypes
from mageflow.errors import IllegalMoveError, OutsideTransactionError, TransactionError
from mageflow.flow.checks import check_count, check_seconds, check_start, one_of
from mageflow.flow.payload import Json, dump, merge, message_of, plain
from mageflow.flow.signature import Change, Members, Message, NewSignature, Patch, Persisted, Run, Steer, Verb
from mageflow.flow.status import Kind, Status
from mageflow.handle import FlowHandle
from mageflow.planner import patch_line
from mageflow.session import Session
from mageflow.store.codec import Record, record_of
from mageflow.views import members

In = TypeVar("In", contravariant=True)  # noqa: PLC0105 - the word of the documentation
Out = TypeVar("Out", covariant=True)  # noqa: PLC0105 - likewise

_EPOCH = datetime.fromtimestamp(0, tz=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
SNAPSHOT = 1000
"""Members that a snapshot lists at the most."""
_COPIED_SETTINGS = ("mc", "sf", "mt", "os", "cl", "nm")


class Signature(Persisted, Generic[In, Out]):
    """A persisted, runnable description of work. Attributes are snapshots of the last load."""

    kind: Kind

    def __init__(
        self,
        session: Session,
        record: Record,
        members: Sequence[str] = (),
        *,
        model: type[BaseModel] | None = None,
    ) -> None:
        self._session = session
        self._record = record
        self._model = model
        self._members = [(member, Status.PENDING) for member in members[:SNAPSHOT]]
        self._kwargs = Kwargs(self, record.body.kwargs)

    @property
    @override
    def id(self) -> str:
        return self._record.id

    @property
    @override
    def key(self) -> str:
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
        return FlowHandle(self._session, self.id)

    async def arefresh(self) -> None:
        """Read it again. One round trip.

        Raises:
            SignatureNotFoundError: it is gone.
        """
        self._record = await self._session.read(self.id)
        self._kwargs = Kwargs(self, self._record.body.kwargs)

    async def aio_run_no_wait(
        self,
        msg: In | Mapping[str, Any] | None = None,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
    ) -> FlowHandle[Out]:
        """Start it and return a handle. One round trip, and one to the task manager.

        Args:
            msg: a model, a mapping or nothing.
            delay: not before so long from now (in a transaction: from its exit), for a whole flow. A worker starts it
                then, under load within a second; until then it is `pending`, lives, and can be steered.
            at: not before this time, with a time zone; one that is over is now. By the clock of Redis.
            options: options of the task manager for this start.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: the message is wrong; nothing was started.
            InvalidArgumentError: `delay` or `at` is none, or both were given.
            AlreadyStartedError: it was started before.
            IllegalMoveError: its container starts it, or it is a member and would be put off.
            SignatureNotFoundError: it is gone.
        """
        check_start(delay, at)
        message = message_of(msg, f"the message of {self.key}")
        values = (await self._session.planner()).options(options, f"the options of {self.key}")
        await self._check_message(message)
        changes: list[Change] = []
        if values:
            line = patch_line(self._limit, self.key, options=values)
            changes.append(Patch(id=self.id, line=line))
        if msg is not None:
            changes.append(Message(id=self.id, message=dump(message, f"the message of {self.key}", self._limit)))
        await self._session.commit_once(self.id, [*changes, _run(self.id, delay, at)])
        if self._session.block is None:
            self._session.replay.started(self.id)
        return self.handle

    async def aio_run(
        self,
        msg: In | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the flow goes on: not a cancel scope
        options: Mapping[str, Any] | BaseModel | None = None,
    ) -> Out:
        """Start it and return its result; see `aio_run_no_wait` and `FlowHandle.result`.

        Raises:
            FlowFailedError, FlowCanceledError, ResultTimeoutError: how it ended, or did not.
        """
        if self._session.block is not None:
            text = "aio_run waits for a result: a transaction starts work at its exit only"
            raise TransactionError(text)
        check_seconds(timeout, "timeout")
        handle = await self.aio_run_no_wait(msg, options=options)
        return await handle.result(timeout)

    async def aduplicate(self) -> Signature[In, Out]:
        """Return a copy under a new key, with all its members. Two round trips for each 100 of them."""
        [copy] = await self.aduplicate_many(1)
        return copy

    async def aduplicate_many(self, count: int) -> list[Signature[In, Out]]:
        """Return so many copies; see `aduplicate`."""
        check_count(count, "the number of copies")
        record = await self._session.read(self.id)
        changes: list[Change] = []
        names = [self._session.replay.identify("copy", self.id) for _ in range(count)]
        copies = [await self._copied(record, name, None, None, changes) for name in names]
        await self._session.commit(changes)
        new = {change.id: change for change in changes if isinstance(change, NewSignature)}
        return [type(self)(self._session, record_of(new[copy])) for copy in copies]

    async def suspend(self) -> Status:
        """Start nothing more of it and of all below it until `resume`; what runs, ends and counts.

        One round trip, whatever the size; returns the status. Of no effect on what has ended or is interrupted.

        Raises:
            TaskAlreadyRunningError: a lone task that runs.
        """
        return await self._steer("suspend")

    async def interrupt(self) -> Status:
        """Suspend it and stop running code: a coroutine gets `CancelledError`, the result of a thread is lost.

        No callbacks fire, the message is kept; see `suspend`.
        """
        return await self._steer("interrupt")

    async def resume(self) -> Status:
        """Go on exactly where it was held; clears the mark of this signature only. See `suspend`."""
        return await self._steer("resume")

    async def cancel(self) -> Status:
        """End it and all below it: nothing more starts, running code is stopped, none of its callbacks fire.

        Its container takes it for a failed member. One round trip; of no effect on what has ended.
        """
        return await self._steer("cancel")

    async def pause_task(self, pause_type: PauseActionTypes | str = PauseActionTypes.SUSPEND) -> Status:
        """Suspend or interrupt it; see there."""
        return await self._steer(one_of(PauseActionTypes, pause_type, "the type of a pause").value)

    async def remove(self) -> None:
        """Cancel it and delete it with all below it.

        Raises:
            IllegalMoveError: it is a member, a fired callback, or a callback of something.
        """
        await self._session.commit([Steer(id=self.id, verb="remove")])

    async def _steer(self, verb: Verb) -> Status:
        await self._session.commit([Steer(id=self.id, verb=verb)])
        if self._session.block is None:
            self._record = await self._session.read(self.id)
        return self.task_status

    def _patch(self, changed: Mapping[str, Any], dropped: str | None = None) -> Patch:
        if self.kind is Kind.TASK and self.task_name is not None:
            self._session.check_kwargs(self.task_name, changed, self._model)
        where = f"an argument of {self.key}"
        mark, values = self._session.replay.next_change(self.id), plain(changed, where)
        return Patch(
            id=self.id, mark=mark, line=patch_line(self._limit, where, changed=values, dropped=dropped, mark=mark)
        )

    async def change(self, changed: Mapping[str, Any], *, dropped: str | None = None, undo: Callable[[], None]) -> None:
        """Change bound arguments; users call `kwargs.aupdate` and `kwargs.apop`."""
        patch = self._patch(changed, dropped)
        if self._session.block is not None:
            self._session.block.undo.append(undo)
        await self._session.commit([patch])

    def change_in_block(self, changed: Mapping[str, Any], *, undo: Callable[[], None]) -> None:
        """Change bound arguments in a transaction; users call `kwargs[name] = value`."""
        block = self._session.block
        if block is None:
            raise OutsideTransactionError(self.key)
        block.add([self._patch(changed)])
        block.undo.append(undo)

    async def _copied(
        self, record: Record, target: str, container: str | None, index: int | None, changes: list[Change]
    ) -> str:
        """Append the changes that copy a record and what is below it."""
        if "it" in record.fields:
            raise IllegalMoveError(self._key(record.id), "duplicate", "it is a map: make another with amap")
        settings: dict[str, int | str] = {
            name: record.fields[name] for name in _COPIED_SETTINGS if name in record.fields
        }
        if record.kind is not Kind.TASK:
            ids: list[str] = []
            async for member in members(await self._session.store(), record.id):
                position = None if record.kind is Kind.SWARM else len(ids)
                copy = self._session.replay.part(target, "member", len(ids))
                ids.append(await self._copied(member, copy, target, position, changes))
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
                cases=record.cases,
            )
        )
        return target

    async def _check_message(self, message: Json) -> None:
        """Check what can be checked before a start; nothing, here."""

    @property
    def _limit(self) -> int:
        return self._session.config.payload_limit

    def _key(self, identifier: str) -> str:
        return self._session.key(identifier)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_name or ''} {self.key} {self.task_status.value}>"


def _run(identifier: str, delay: timedelta | None, at: datetime | None) -> Run:
    millisecond = timedelta(milliseconds=1)
    return Run(
        id=identifier,
        delay=-(-(delay or timedelta()) // millisecond),
        at=None if at is None else min(-(-(at - _EPOCH) // millisecond), (_LAST - _EPOCH) // millisecond),
    )


class TaskSignature(Signature[In, Out]):
    """A task with bound arguments and callbacks."""

    kind = Kind.TASK

    @override
    async def _check_message(self, message: Json) -> None:
        if self._record.container is None:
            self._session.check_first_message(self._record, merge(self._record.body.kwargs, message), self._model)


class ChainSignature(Signature[In, Out]):
    """Members one after the other; each gets the result of the one before."""

    kind = Kind.CHAIN

    @override
    async def _check_message(self, message: Json) -> None:
        """Check the message of the first task, through chains that come first in chains."""
        record, message = self._record, merge(message, self._record.body.kwargs)
        while record.kind is Kind.CHAIN:
            first = await self._session.first_member(record.id)
            if first is None:
                return
            record = first
            message = merge(message, record.body.kwargs)
        if record.kind is Kind.TASK:
            self._session.check_first_message(record, message)


class SwitchSignature(Signature[In, Out]):
    """A chooser, and cases of which its result chooses one."""

    kind = Kind.SWITCH
