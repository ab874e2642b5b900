"""What signatures and verbs share: the open engine of a client, writing and reading through it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel

from mageflow.config import MageflowConfig
from mageflow.engine import Engine
from mageflow.errors import (
    AlreadyStartedError,
    FlowCanceledError,
    FlowFailedError,
    SignatureNotFoundError,
    StoreUnavailableError,
)
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Json
from mageflow.flow.signature import Add, Asked, Change, NewSignature, Run, Steer
from mageflow.flow.status import Status
from mageflow.planner import Planner
from mageflow.run.binding import validated
from mageflow.run.replay import Replay
from mageflow.run.tasks import Tasks
from mageflow.store.codec import Record
from mageflow.store.results import Results
from mageflow.store.store import Store
from mageflow.transaction import Block, Entered, current_block

T = TypeVar("T")
logger = logging.getLogger("mageflow")

_STOPPING = frozenset({"interrupt", "cancel", "remove"})


class Session:
    """One client's way to its flows; `open` returns its engine, opened if need be."""

    def __init__(
        self,
        config: MageflowConfig,
        tasks: Tasks,
        open_engine: Callable[[], Awaitable[Engine]],
        client: object,
    ) -> None:
        self.replay = Replay(client)
        self.config = config
        self._tasks = tasks
        self.open = open_engine

    def key(self, identifier: str) -> str:
        """Return the public key of an id."""
        return key_of(self.config.namespace, identifier)

    async def planner(self) -> Planner:
        """Return what turns descriptions into changes."""
        return (await self.open()).planner

    async def store(self) -> Store:
        """Return the store."""
        return (await self.open()).store

    async def results(self) -> Results:
        """Return the reader of results and errors."""
        return (await self.open()).results

    @property
    def block(self) -> Block | None:
        """The transaction that the current code is in."""
        return current_block(self)

    @asynccontextmanager
    async def transaction(self, *, ignore_redis_error: bool) -> AsyncGenerator[None]:
        """Write what the block describes in one step at its exit; see `Mageflow.abounded_field`."""
        with Entered(self) as entered:
            yield
        if entered.outermost:
            await self.finish(entered.block, ignore_redis_error=ignore_redis_error)

    async def finish(self, block: Block, *, ignore_redis_error: bool) -> None:
        """Write what an outermost block described."""
        try:
            block.check()
            groups = block.groups
            changes = [*await self._unwritten(groups), *self._asked(change for group in groups for change in group)]
            if changes:
                await self._write(changes)
        except StoreUnavailableError as error:
            block.drop()
            if not ignore_redis_error:
                raise
            logger.error("a transaction of %d changes was dropped: %s", len(block.groups), error)  # noqa: TRY400 - asked for
        except BaseException:
            block.drop()
            raise

    async def commit(self, changes: Sequence[Change]) -> None:
        """Write changes in one step and submit what they make ready; in a transaction, at its exit."""
        block = self.block
        if not changes:
            return
        if block is None:
            await self._write([*changes, *self._asked(changes)])
        else:
            block.add(changes)

    async def commit_once(self, identifier: str, changes: Sequence[Change]) -> None:
        """Commit changes of one signature; in a task that runs again, not to what its earlier run started.

        Raises:
            AlreadyStartedError: it was started, by another or in this run.
        """
        try:
            await self.commit(changes)
        except AlreadyStartedError:
            if not self.replay.starts_again(identifier):
                raise

    def _asked(self, changes: Iterable[Change]) -> list[Change]:
        """Return what tells the store that the run of a task asked for new signatures; nothing outside of runs."""
        run = self.replay.run
        ids = [change.id for change in changes if isinstance(change, NewSignature) and change.container is None]
        return [Asked(id=run.id, run=run.run, ids=ids)] if run is not None and ids else []

    async def _unwritten(self, groups: Sequence[Sequence[Change]]) -> list[Change]:
        """Return the changes of a block; in a task that runs again, without those that its earlier run wrote."""
        left: list[Change] = []
        for group in groups:
            if self.replay.run is None or not await self._was_written(group):
                left.extend(group)
        for change in left:
            if isinstance(change, Run):
                self.replay.started(change.id)
        return left

    async def _was_written(self, group: Sequence[Change]) -> bool:
        last, store = group[-1], await self.store()
        first = next((change.id for change in group if isinstance(change, NewSignature)), None)
        if first is not None:
            return (await store.read([first]))[0] is not None
        if isinstance(last, Run) and self.replay.starts_again(last.id):
            [record] = await store.read([last.id])
            return record is not None and "rd" in record.fields
        if isinstance(last, Add) and self.replay.made_before(*last.ids):
            records = await store.read(last.ids)
            return all(record is not None and record.container == last.swarm for record in records)
        return False

    async def _write(self, changes: Sequence[Change]) -> None:
        engine = await self.open()
        stopped = [change.id for change in changes if isinstance(change, Steer) and change.verb in _STOPPING]
        # Read before the change: a later run of the same signature is not to be canceled.
        runs = await engine.runs_to_stop(stopped)
        answer = await engine.store.commit(changes)
        await engine.dispatch(answer.ready)
        engine.stop_soon(runs)

    async def read(self, identifier: str) -> Record:
        """Return a record.

        Raises:
            SignatureNotFoundError: there is none.
        """
        return (await self.read_many([identifier]))[identifier]

    async def read_many(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return records by id, in a transaction with what it describes.

        Raises:
            SignatureNotFoundError: one is missing.
        """
        block = self.block
        described = {i: block.find(i) for i in ids} if block is not None else {}
        found = {identifier: record for identifier, record in described.items() if record is not None}
        missing = [identifier for identifier in ids if identifier not in found]
        stored = await (await self.store()).read(missing) if missing else []
        for identifier, record in zip(missing, stored, strict=True):
            if record is None:
                raise SignatureNotFoundError(self.key(identifier))
            found[identifier] = record
        return found

    async def first_member(self, container: str) -> Record | None:
        """Return the first member of a chain."""
        block, store = self.block, await self.store()
        first = block.first_member(container) if block is not None else None
        if first is None:
            found = await store.command("LINDEX", store.keys.members(container), 0)
            first = found.decode() if found else None
        return await self.read(first) if first else None

    async def through_outages(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` returns, again and again while Redis does not answer.

        Raises:
            StoreUnavailableError: Redis was not reached even once, or the client was closed.
        """
        while True:
            try:
                return await read()
            except StoreUnavailableError as error:
                if not error.passing:
                    raise

    async def wait(self, identifier: str) -> Record | None:
        """Return the record once the signature has ended; `None` if there is none."""
        return await (await self.open()).waiter.wait(identifier)

    async def check_outcome(self, record: Record) -> None:
        """Raise how a signature that has ended failed, if it did.

        Raises:
            FlowFailedError: it failed; carries the original error.
            FlowCanceledError: it was canceled.
        """
        key = self.key(record.id)
        if record.status is Status.CANCELED:
            raise FlowCanceledError(key, record.fields.get("re", "canceled"))
        if record.status is Status.FAILED:
            error = await (await self.results()).error(record.id)
            raise FlowFailedError(key, error["type"], error["message"], error["traceback"], error["failed_key"])

    def check_kwargs(self, name: str, kwargs: Mapping[str, Any], model: type[BaseModel] | None) -> None:
        """Refuse bound arguments of a wrong type: for this model, else the task's own where it is known here."""
        self._tasks.check_arguments(name, kwargs, model)

    def check_first_message(self, record: Record, message: Json, model: type[BaseModel] | None = None) -> None:
        """Refuse the message of a task that is started directly: for this model, else the task's own.

        Raises:
            InvalidMessageError: names the fields.
        """
        name = record.body.name or ""
        model = model or self._tasks.model_of(name)
        if model is not None:
            validated(model, message, name)

    def check_item(self, name: str, message: Json, place: str) -> None:
        """Refuse an item that the model of its task cannot take, where it is known here; what is missing may come.

        Raises:
            InvalidMessageError: names the item and the fields.
        """
        self._tasks.check_arguments(name, message, where=f"{name} ({place})")
