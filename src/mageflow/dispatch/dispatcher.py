"""From rows of the outbox to runs of the task manager."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from mageflow.backends.base import Backend, Submission, Verdict
from mageflow.dispatch.composer import Composer
from mageflow.errors import MageflowError, StoreUnavailableError, SubmitRefusedError
from mageflow.flow.command import Dispatch, Ready, Row
from mageflow.flow.event import error_json
from mageflow.flow.ids import key_of
from mageflow.store.store import Store

logger = logging.getLogger("mageflow.dispatch")

_NOTE_AFTER = 0.15
_NOTED_AT_ONCE = 100
_KEEP_EVERY = 0.5
_KEPT_FOR = 60.0
"""Seconds after which rows that the task manager does not take are left to a sweeper."""


class Dispatcher:
    """Submits what transitions made ready. What it does not get to stands in the outbox, for any sweeper."""

    def __init__(self, store: Store, backend: Backend, composer: Composer) -> None:
        self._store = store
        self._backend = backend
        self._composer = composer
        self._background: set[asyncio.Task[None]] = set()
        self._offered: dict[str, tuple[int, str]] = {}
        self._noting = False
        self._in_hand: dict[str, tuple[int, float]] = {}
        self._keeping: asyncio.TimerHandle | None = None
        self._leaving = asyncio.Event()

    async def dispatch(self, ready: Ready) -> None:
        """Submit the rows: one round trip to the task manager for each bulk.

        Where there are continue rows, they are worked off in the background, and all that they make ready goes with the
        rows.
        """
        self._hold(ready.rows)
        if ready.continues:
            self.in_background(self._continue(ready))
        else:
            await self._submit(ready)

    async def _continue(self, ready: Ready) -> None:
        """Work off continue rows, one round trip for each part; what is left when this fails, a sweeper does.

        Rows are submitted as a whole bulk, or what became ready while the task manager took the ones before: requests
        are what costs it most.
        """
        todo, bulk, rest = list(ready.continues), self._backend.capabilities.bulk, Ready()
        submitting: asyncio.Task[None] | None = None
        try:
            while todo:
                more = (await self._store.continue_(todo.pop())).ready
                self._hold(more.rows)
                todo.extend(more.continues)
                room = max(0, bulk - len(ready.rows))
                rest = replace(more, rows=more.rows[room:])
                ready = ready.with_rows_of(replace(more, rows=more.rows[:room]))
                free = submitting is not None and submitting.done()
                if len(ready.rows) >= bulk or (ready.rows and free):
                    submitting, ready = await self._submit_next(ready, submitting), rest
            submitting = await self._submit_next(ready, submitting)
            await submitting
        except MageflowError as error:
            logger.warning("%d continue rows are left to a sweeper: %s", len(todo) + 1, error)
        finally:
            self._let_go([*ready.rows, *rest.rows])
            if submitting is not None:
                await asyncio.wait([submitting])

    async def _submit_next(self, ready: Ready, before: asyncio.Task[None] | None) -> asyncio.Task[None]:
        """Begin to submit rows when those before are through."""
        if before is not None:
            await before
        return asyncio.create_task(self._submit(ready), name="mageflow-submit")

    async def idle(self) -> None:
        """Wait until everything in the background is through."""
        self._leaving.set()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        self._leaving.clear()

    def _hold(self, rows: Sequence[Row]) -> None:
        """Note rows that are to be submitted: while that lasts no sweeper is to offer them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._in_hand.update({row.id: (row.dispatch, now) for row in rows})
        if self._keeping is None and self._in_hand:
            self._keeping = loop.call_later(_KEEP_EVERY, self._keep)

    def _let_go(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._in_hand.pop(row.id, None)

    def _keep(self) -> None:
        """Put off the rows that have been in hand for a while."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        long = [(i, d) for i, (d, since) in self._in_hand.items() if _KEEP_EVERY / 2 < now - since < _KEPT_FOR]
        self._keeping = loop.call_later(_KEEP_EVERY, self._keep) if self._in_hand else None
        for start in range(0, len(long), _NOTED_AT_ONCE):
            self.in_background(self._put_off(long[start : start + _NOTED_AT_ONCE]))

    async def _put_off(self, rows: Sequence[tuple[str, int]]) -> None:
        try:
            await self._store.in_hand(rows)
        except StoreUnavailableError as error:
            logger.warning("%d rows are not put off, they may be offered twice: %s", len(rows), error)

    async def _submit(self, ready: Ready) -> None:
        """Submit rows that are held, and let them go."""
        try:
            await self._hand_over(ready)
        finally:
            self._let_go(ready.rows)

    async def _hand_over(self, ready: Ready) -> None:
        dispatches: list[Dispatch] = []
        for row in ready.rows:
            try:
                dispatches.append(await self._composer.compose(row, ready.nodes))
            except StoreUnavailableError:
                raise
            except MageflowError as error:
                await self._refuse(row.id, row.dispatch, "", error)
        bulk = self._backend.capabilities.bulk
        for start in range(0, len(dispatches), bulk):
            batch = dispatches[start : start + bulk]
            await self._record(batch, await self._backend.submit(batch))

    async def _record(self, batch: Sequence[Dispatch], submissions: Sequence[Submission]) -> None:
        offered: dict[str, tuple[int, str]] = {}
        for dispatch, submission in zip(batch, submissions, strict=True):
            if submission.verdict is Verdict.ACCEPTED:
                offered[dispatch.id] = (dispatch.dispatch, submission.manager_run)
            elif submission.verdict is Verdict.REFUSED:
                error = SubmitRefusedError(dispatch.task.name, submission.reason)
                await self._refuse(dispatch.id, dispatch.dispatch, dispatch.task.name, error)
            else:
                logger.warning("signature %s was not submitted, a sweeper will: %s", dispatch.id, submission.reason)
        if not offered:
            return
        self._offered.update(offered)
        if not self._noting:
            self._noting = True
            self.in_background(self._note())

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without waiting for it; `idle` waits."""
        task = asyncio.create_task(work, name="mageflow-dispatch")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _note(self) -> None:
        """Note offers a little later, in one step: most of what runs here has started by then and needs no note.

        A row stands 2 s before a sweeper offers what it believes was never offered.
        """
        while self._offered:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _NOTE_AFTER)
            offered, self._offered = [(i, d, run) for i, (d, run) in self._offered.items()], {}
            pages = [offered[start : start + _NOTED_AT_ONCE] for start in range(0, len(offered), _NOTED_AT_ONCE)]
            timeout = self._backend.capabilities.start_timeout
            try:
                await asyncio.gather(*(self._store.offered(page, timeout) for page in pages))
            except StoreUnavailableError as error:
                logger.warning("%d offers were not noted, they may be repeated: %s", len(offered), error)
        self._noting = False

    def started(self, identifier: str) -> None:
        """A run started here: its row is gone."""
        self._offered.pop(identifier, None)

    async def _refuse(self, identifier: str, number: int, task_name: str, error: MageflowError) -> None:
        key = key_of(self._store.config.namespace, identifier)
        logger.error("signature %s cannot be dispatched: %s", key, error)
        answer = await self._store.refused(identifier, number, error_json(error, task_name, key))
        await self.dispatch(answer.ready)
