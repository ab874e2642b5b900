"""Looks after what nobody cares for: overdue rows, lapsed runs, continuations, expired flows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mageflow.backends.base import Backend, Finding, ManagerRun, RunState
from mageflow.dispatch.dispatcher import Dispatcher
from mageflow.errors import BrokenRecordError, MageflowError, PayloadError, RunFailedError
from mageflow.flow.event import error_json
from mageflow.flow.ids import key_of
from mageflow.flow.payload import dump
from mageflow.store.codec import text
from mageflow.store.store import Store

logger = logging.getLogger("mageflow.sweeper")

INTERVAL = 1.0
"""Seconds between two sweeps of an idle namespace."""
_LETTERS = {
    RunState.GONE: "g",
    RunState.UNKNOWN: "g",
    RunState.DONE: "d",
    RunState.FAILED: "f",
    RunState.CANCELED: "c",
    RunState.RUNNING: "r",
    RunState.LOST: "x",
}
"""What is done with a row, by what its task manager says of the run; else it is left as it is."""
_WITH_ERROR = "frx"
_LOOK_EVERY = 10.0
"""Seconds between two looks at some records, whether each waits on something."""
_LOOKED_AT = 1000
_IN_ONE_SCRIPT = 50


class Sweeper:
    """Runs in every worker; claims are atomic, so any number of them work side by side."""

    def __init__(self, store: Store, backend: Backend, dispatcher: Dispatcher) -> None:
        self._store = store
        self._backend = backend
        self._dispatcher = dispatcher
        self._undecided = False
        self._next_start = INTERVAL
        self._cursor = 0
        self._look_at = 0.0

    async def sweep(self) -> bool:
        """Sweep once; return whether there was anything to do. One round trip when there is nothing."""
        drained = await self._backend.drained() if self._undecided else ()
        capabilities = self._backend.capabilities
        timeout = capabilities.start_timeout
        answer = await self._store.sweep(drained=drained, start_timeout=timeout, probes=capabilities.probes)
        undecided, more, asks, lost, next_start = answer.extra
        self._next_start = int(next_start) / 1000 if next_start else INTERVAL
        self._undecided = undecided > 0
        await self._dispatcher.dispatch(answer.ready)
        if asks:
            self._dispatcher.in_background(self._ask([_asked(entry) for entry in asks]))
        if lost and capabilities.interrupts:
            self._dispatcher.in_background(self._backend.interrupt([_lost(entry) for entry in lost]))
        return bool(more or answer.ready.rows or answer.ready.continues)

    async def _ask(self, runs: Sequence[ManagerRun]) -> None:
        """Ask the task manager for rows that have not started in time, and do what its answers call for."""
        findings = await self._backend.probe(runs)
        told = [self._told(run, finding) for run, finding in zip(runs, findings, strict=True)]
        try:
            answer = await self._store.probed(told, self._backend.capabilities.start_timeout)
            await self._dispatcher.dispatch(answer.ready)
            lost = [_lost(entry) for entry in answer.extra]
            if lost and self._backend.capabilities.interrupts:
                await self._backend.interrupt(lost)
        except MageflowError as error:
            logger.warning("what became of %d runs was not noted, they are asked for again: %s", len(runs), error)

    def _told(self, run: ManagerRun, finding: Finding) -> tuple[str, int, str, bytes]:
        key = key_of(self._store.config.namespace, run.id)
        letter, said = _LETTERS.get(finding.state, "l"), b""
        try:
            if finding.state is RunState.DONE:
                said = dump(finding.result, f"the result of task {run.task!r}", self._store.config.payload_limit)
            elif letter in _WITH_ERROR:
                reason = finding.reason or "none of its code began"
                said = error_json(RunFailedError(key, run.manager_run, reason), run.task, key)
        except PayloadError as error:
            letter, said = _LETTERS[RunState.FAILED], error_json(error, run.task, key)
        return run.id, run.dispatch, letter, said

    async def _look_for_stalls(self) -> None:
        """Look at the next records now and then: one that waits on nothing is a defect, reported and let go on.

        One round trip for about 1,000 keys, and one for each 50 records among them.
        """
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        records = self._store.keys.record("*")
        cursor, found = await self._store.command("SCAN", self._cursor, "MATCH", records, "COUNT", _LOOKED_AT)
        self._cursor = int(cursor)
        ids = [text(key).removeprefix(records[:-1]) for key in found]
        for start in range(0, len(ids), _IN_ONE_SCRIPT):
            try:
                answer = await self._store.rearm(ids[start : start + _IN_ONE_SCRIPT])
            except BrokenRecordError as error:
                logger.warning("some records could not be looked at: %s", error)
                continue
            for identifier in map(text, answer.extra):
                key = key_of(self._store.config.namespace, identifier)
                logger.error("%s waited on nothing, which must not be: it goes on now", key)
            await self._dispatcher.dispatch(answer.ready)

    async def run(self) -> None:
        """Sweep until canceled."""
        while True:
            found, self._next_start = False, INTERVAL
            try:
                found = await self.sweep()
                await self._look_for_stalls()
            except MageflowError as error:
                logger.warning("sweep failed, the next one goes on: %s", error)
            except Exception:
                logger.exception("sweep failed, the next one goes on")
            await asyncio.sleep(0 if found else min(INTERVAL, self._next_start))


def _lost(entry: Sequence[Any]) -> ManagerRun:
    identifier, dispatch, run = entry
    return ManagerRun(id=text(identifier), dispatch=dispatch, manager_run=text(run))


def _asked(entry: Sequence[Any]) -> ManagerRun:
    task, age = entry[3:]
    return replace(_lost(entry[:3]), task=text(task), age=int(age) / 1000)
