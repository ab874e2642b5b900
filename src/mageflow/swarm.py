"""Swarms as users hold them: they grow, they are closed, they tell how far they are."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from typing_extensions import override

from mageflow.config import SwarmConfig
from mageflow.errors import (
    AlreadyInContainerError,
    InvalidArgumentError,
    TaskAndMsgsDontMatchForSwarmError,
    TransactionError,
)
from mageflow.feed import Feed
from mageflow.flow.checks import check_count, check_items, list_of, one_of
from mageflow.flow.ids import item_id
from mageflow.flow.payload import dump, merge, message_of
from mageflow.flow.signature import Add, Close, NewSignature
from mageflow.flow.status import Kind, Status
from mageflow.session import Session
from mageflow.signature import SNAPSHOT, ChainSignature, In, Out, Signature, SwitchSignature, TaskSignature
from mageflow.store.codec import Record, record_of
from mageflow.stream import ResultStream
from mageflow.views import Progress, members, progress_of

Item = TypeVar("Item")


class SwarmSignature(Signature[In, Out]):
    """Members side by side, bounded, and it can grow while it runs."""

    kind = Kind.SWARM

    @override
    async def arefresh(self) -> None:
        """Read it again with its first 1000 members. One round trip, and two for each 100 members."""
        await super().arefresh()
        first = _limited(members(await self._session.store(), self.id), SNAPSHOT)
        self._members = [(record.id, self._counted(record)) async for record in first]

    def _counted(self, member: Record) -> Status:
        """Return a member's status; of one that finished unheeded, the one that it had when the swarm failed."""
        failed_at = self._record.time("t2") if self._record.status is Status.FAILED else None
        unheeded = member.status in {Status.DONE, Status.FAILED} and (member.time("t2") or 0) > (failed_at or math.inf)
        return Status.ACTIVE if unheeded else member.status

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
        return (await self._session.read(self.id)).status is Status.DONE

    async def progress(self) -> Progress:
        """Return the counts of its members and what is left. One round trip."""
        return progress_of(await self._session.read(self.id))

    async def members(
        self, status: Status | str | None = None, after: int = 0, limit: int = SNAPSHOT
    ) -> tuple[str, ...]:
        """Return keys of members in order, of one status if given: `limit` of them, the first `after` left out.

        Two round trips for each 100 members that are looked at: `after` and what has another status count. Of a map
        those that are active or failed are found without a look at the others.
        """
        wanted = None if status is None else one_of(Status, status, "the status of members")
        check_count(after, "after")
        check_count(limit, "limit")
        matching = _limited(members(await self._session.store(), self.id, wanted), after + limit)
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
        tasks = list_of(tasks, f"tasks for swarm {self.key}")
        msgs = list_of(msgs, f"messages for swarm {self.key}", "a model or a mapping")
        if len(tasks) != len(msgs):
            raise TaskAndMsgsDontMatchForSwarmError(self.key, len(tasks), len(msgs))
        messages: list[bytes | None] = []
        for place, msg in enumerate(msgs):
            where = f"message {place} for swarm {self.key}"
            messages.append(None if msg is None else dump(message_of(msg, where), where, self._limit))
        return await self._add(tasks, messages, run=True, close_on_max=close_on_max_task)

    async def close_swarm(self) -> None:
        """Take no more members; on a running swarm every registered member becomes ready. One round trip."""
        await self._session.commit([Close(id=self.id)])
        self._record.fields["cl"] = "1"

    def adding(self) -> _Adding:
        """Return a context in which members are added; its exit closes the swarm, also after an error."""
        return _Adding(self)

    async def _add(
        self, tasks: Iterable[object], messages: Sequence[bytes | None], *, run: bool, close_on_max: bool
    ) -> list[Signature[Any, Any]]:
        ids, changes = await (await self._session.planner()).additions(self.id, tasks, messages)
        if not ids:
            return []
        try:
            await self._session.commit([*changes, Add(swarm=self.id, ids=ids, run=run, close_on_max=close_on_max)])
        except AlreadyInContainerError:
            if not await self._added_before(ids):
                raise
        records = {change.id: record_of(change) for change in changes if isinstance(change, NewSignature)}
        records |= await self._session.read_many([member for member in ids if member not in records])
        return [signature_of(self._session, records[member]) for member in ids]

    async def _added_before(self, ids: Sequence[str]) -> bool:
        """Whether an earlier run of the current task made these signatures and added them."""
        if not self._session.replay.made_before(*ids):
            return False
        return all(record.container == self.id for record in (await self._session.read_many(ids)).values())


class MapSignature(SwarmSignature[In, list[Item]], Generic[In, Item]):
    """A swarm of one task over many messages, its items; the key of an item is `<key of the map>#<index>`.

    An item has a record only while it runs, when it failed or was steered, and where callbacks or a replacement hang on
    it. One that waits takes as much as its message; of one that is done the result is kept alone.
    """

    async def add_items(
        self, items: Iterable[object] | AsyncIterable[object], *, max_waiting: int | None = 10_000, first: int = 0
    ) -> None:
        """Add all that an iterable yields, which may be without end: 500 at a time, one round trip each.

        On a map that was started they are ready at once, on another at its run. A task that runs again adds those alone
        that its earlier run did not come to. The map stays open: also after an error, with the items before it.

        Args:
            items: messages: models or mappings.
            max_waiting: while so many wait in a map that was started no more are taken; `None`: unbounded.
            first: number of the first one in errors.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: an item is wrong; names its number.
            SwarmIsClosedError, SwarmIsCanceledError, TooManyTasksError: the map takes no more.
            TransactionError: in a transaction, which would hold all of them.
        """
        if self._session.block is not None:
            text = "items of a map are written as they come: add them outside of the transaction"
            raise TransactionError(text)
        check_items(items, f"the items of map {self.key}")
        check_count(first, "first")
        if max_waiting is not None:
            check_count(max_waiting, "max_waiting")
        encode = await self._encoder()
        await Feed(self._session, self.id, encode, max_waiting=max_waiting, first=first).run(items)

    async def _encoder(self) -> Callable[[object, int], bytes]:
        template = await self._session.read(self._record.fields["it"])
        name, bound = template.body.name or "", merge(self._record.body.kwargs, template.body.kwargs)

        def encode(item: object, place: int) -> bytes:
            where = f"item {place} of map {self.key}"
            if item is None:
                raise InvalidArgumentError(where, "a model or a mapping", "None")
            message = message_of(item, where)
            self._session.check_item(name, merge(bound, message), f"item {place}")
            return dump(message, where, self._limit)

        return encode

    async def item(self, index: int) -> Signature[Any, Item]:
        """Return an item as a signature: its status, message, verbs. One round trip.

        Raises:
            SignatureNotFoundError: there is no item of this index.
        """
        check_count(index, "the index of an item")
        return signature_of(self._session, await self._session.read(item_id(self.id, index)))

    def results(self, start: int = 0, *, ordered: bool = True) -> ResultStream[Item]:
        """Return the results one by one as they come: `async for result in numbers.results():`.

        Items that failed or were canceled are left out. Two round trips for each 50 results.

        Args:
            start: index of the first item; of results as they end, how many of them were read before.
            ordered: in the order of the items; else in that of their ends.
        """
        return ResultStream[Item](self._session, self.id, start, ordered=ordered)


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


_SIGNATURES: dict[Kind, type[Signature[Any, Any]]] = {
    Kind.TASK: TaskSignature,
    Kind.CHAIN: ChainSignature,
    Kind.SWARM: SwarmSignature,
    Kind.SWITCH: SwitchSignature,
}


def signature_of(session: Session, record: Record) -> Signature[Any, Any]:
    """Return the signature object of a record."""
    if "it" in record.fields:
        return MapSignature[Any, Any](session, record)
    return _SIGNATURES[record.kind](session, record)
