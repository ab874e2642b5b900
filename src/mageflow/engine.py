"""Wires the parts of one client together, for one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError

from mageflow.backends.base import Address, Backend, ManagerRun
from mageflow.config import MageflowConfig
from mageflow.dispatch.catalog import Catalog
from mageflow.dispatch.composer import Composer
from mageflow.dispatch.dispatcher import Dispatcher
from mageflow.dispatch.repair import Repair, Report
from mageflow.dispatch.sweeper import Sweeper
from mageflow.flow.command import Ready
from mageflow.flow.ids import new_id
from mageflow.flow.task import TaskDefinition
from mageflow.planner import Planner
from mageflow.run.beat import Beat
from mageflow.run.context import Client
from mageflow.run.replay import Replay
from mageflow.run.runner import Runner
from mageflow.run.tasks import Tasks
from mageflow.store.codec import Record
from mageflow.store.link import RedisSource, connection_of, open_pool
from mageflow.store.results import Results
from mageflow.store.store import Store

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 1.0


class Engine:
    """Everything that an open client holds; made by `startup`, gone with `shutdown`."""

    def __init__(
        self,
        source: RedisSource,
        config: MageflowConfig,
        backend: Backend,
        tasks: Tasks,
        client: Client,
    ) -> None:
        self.source = source
        self.backend = backend
        self.loop = asyncio.get_running_loop()
        self.store = Store(source, config)
        self.results = Results(self.store)
        self.catalog = Catalog(self.store)
        composer = Composer(self.store, self.results, self.catalog)
        self.dispatcher = Dispatcher(self.store, backend, composer)
        self.planner = Planner(config, self.catalog, tasks, Replay(client), backend.check_options)
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{new_id()[-6:]}"
        self.runner = Runner(self.store, self.dispatcher, tasks, client=client, worker=self.worker)
        self.waiter = Waiter(self.store, source)
        self._tasks = tasks
        self._sweeping: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.watch_is_over = False
        """Whether the worker stopped: what it is handed now is for another one."""
        self._registering: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Reach Redis, make the tasks known, connect the task manager."""
        connection_class, settings = connection_of(self.source)
        send, ride = self.store.send, self.store.ride
        self.backend.connect(Address(connection_class=connection_class, settings=settings, send=send, ride=ride))
        await self.store.connect()
        self._tasks.find()
        definitions = list(self._tasks.definitions.values())
        for definition in definitions:
            self.catalog.add(definition)
        await self.store.register(definitions)
        self._tasks.on_new = self._register_soon
        await self.backend.open()

    async def serve(self, slots: int) -> None:
        """Begin to run tasks, `slots` at a time: the lease, the sweeper, then the deliveries."""
        await self.keep_watch()
        await self.backend.open(serve=slots)

    async def keep_watch(self) -> None:
        """Begin what a worker needs beside its deliveries: the lease and the sweeper. Of no effect where they run.

        Raises:
            StoreUnavailableError: Redis may evict records.
        """
        self.watch_is_over = False
        if self._sweeping is not None:
            return
        async with self._starting:
            if self._sweeping is not None:
                return
            await self.store.check_eviction()
            if self.watch_is_over:  # stopped meanwhile
                return
            keys = self.store.keys
            self.runner.serve(lambda on_stop: Beat(self.source, keys, self.worker, on_stop))
            sweeper = Sweeper(self.store, self.backend, self.dispatcher)
            self._sweeping = asyncio.create_task(sweeper.run(), name="mageflow-sweeper")

    def _register_soon(self, definition: TaskDefinition) -> None:
        """Make a task known that was declared while the client is open, by whatever thread."""
        self.catalog.add(definition)

        def register() -> None:
            self._registering.append(self.loop.create_task(self.store.register([definition]), name="mageflow-register"))

        self.loop.call_soon_threadsafe(register)

    async def stop_serving(self) -> None:
        """Take no more deliveries and let running tasks end; the client stays open."""
        await self._stop_work()
        await self.backend.open()
        self.watch_is_over = False

    async def _stop_work(self) -> None:
        try:
            await self.backend.close()
            # A receiver that lost its connection knows nothing of what it had begun.
            await self.runner.idle()
        finally:
            await self.stop_watch()

    async def stop_watch(self) -> None:
        """End what `keep_watch` began; for after the last delivery has ended."""
        self.watch_is_over = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None
        await self.dispatcher.idle()
        await self.runner.close()

    async def close(self) -> None:
        """Let running tasks end, then give everything back."""
        self._tasks.on_new = None
        try:
            await self._stop_work()
        finally:
            await asyncio.gather(*self._registering, return_exceptions=True)
            await self.waiter.close()
            await self.store.close()

    async def repair(self, *, apply: bool) -> Report:
        """Look through the namespace for what must not be there."""
        sweeper = Sweeper(self.store, self.backend, self.dispatcher)
        return await Repair(self.store, self.dispatcher, sweeper).run(apply=apply)

    async def runs_to_stop(self, ids: Sequence[str]) -> list[ManagerRun]:
        """Return what the task manager has of these tasks, where it can cancel runs. Two round trips each."""
        if not self.backend.capabilities.interrupts:
            return []
        runs = [ManagerRun(id=i, dispatch=0, manager_run=await self.store.manager_run(i)) for i in ids]
        return [run for run in runs if run.manager_run]

    def stop_soon(self, runs: Sequence[ManagerRun]) -> None:
        """Cancel runs at the task manager, as far as it can, without waiting for it."""
        if runs:
            self.dispatcher.in_background(self.backend.interrupt(runs))

    async def dispatch(self, ready: Ready) -> None:
        """Submit what a change made ready."""
        await self.dispatcher.dispatch(ready)


class Waiter:
    """Waits for signatures to end: woken by Redis, with a look now and then in case the wake-up was lost."""

    def __init__(self, store: Store, source: RedisSource) -> None:
        self._store = store
        self._source = source
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._client: redis.asyncio.Redis | None = None

    async def wait(self, identifier: str) -> Record | None:
        """Return the record once the signature has ended; `None` if there is none."""
        [record] = await self._store.read([identifier])
        if record is None or record.status.ended:
            return record
        woken = asyncio.Event()
        self._waiting.setdefault(identifier, set()).add(woken)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="mageflow-waiter")
        try:
            return await self._look(identifier, woken)
        finally:
            self._waiting[identifier].discard(woken)
            if not self._waiting[identifier]:
                del self._waiting[identifier]

    async def _look(self, identifier: str, woken: asyncio.Event) -> Record | None:
        pause = _FIRST_LOOK
        while True:
            [record] = await self._store.read([identifier])
            if record is None or record.status.ended:
                return record
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), pause)
            woken.clear()
            pause = min(pause * 2, _LONGEST_LOOK)

    async def _listen(self) -> None:
        self._client = open_pool(self._source)
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._client.pubsub() as channel:  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
                    await channel.subscribe(self._store.keys.ended)
                    items = cast("AsyncIterator[Mapping[str, object]]", channel.listen())  # pyright: ignore[reportUnknownMemberType] - untyped
                    async for item in items:
                        self._wake(item)
            await asyncio.sleep(_LONGEST_LOOK)

    def _wake(self, item: Mapping[str, object]) -> None:
        data = item["data"]
        if item["type"] == "message" and isinstance(data, bytes):
            for woken in self._waiting.get(data.decode(), ()):
                woken.set()

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
