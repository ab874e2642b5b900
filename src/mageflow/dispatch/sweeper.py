"""Looks after what nobody cares for: overdue rows, lapsed runs, continuations, expired flows."""

from __future__ import annotations

import asyncio
import logging

from mageflow.backends.base import Backend
from mageflow.dispatch.dispatcher import Dispatcher
from mageflow.errors import MageflowError
from mageflow.store.store import Store

logger = logging.getLogger("mageflow.sweeper")

INTERVAL = 1.0
"""Seconds between two sweeps of an idle namespace."""


class Sweeper:
    """Runs in every worker; claims are atomic, so any number of them work side by side."""

    def __init__(self, store: Store, backend: Backend, dispatcher: Dispatcher) -> None:
        self._store = store
        self._backend = backend
        self._dispatcher = dispatcher
        self._undecided = False

    async def sweep(self) -> bool:
        """Sweep once; return whether there was anything to do. One round trip when there is nothing."""
        drained = await self._backend.drained() if self._undecided else ()
        timeout = self._backend.capabilities.start_timeout
        answer = await self._store.sweep(drained=drained, start_timeout=timeout)
        undecided, more = answer.extra
        self._undecided = undecided > 0
        await self._dispatcher.dispatch(answer.ready)
        return bool(more or answer.ready.rows or answer.ready.continues)

    async def run(self) -> None:
        """Sweep until canceled."""
        while True:
            found = False
            try:
                found = await self.sweep()
            except MageflowError as error:
                logger.warning("sweep failed, the next one goes on: %s", error)
            except Exception:
                logger.exception("sweep failed, the next one goes on")
            await asyncio.sleep(0 if found else INTERVAL)
