"""The life of a client: opened by its first use, for one event loop at a time, closed by its last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mageflow.backends.base import Backend, Delivery, Execution
from mageflow.backends.server import EmbeddedServer
from mageflow.config import MageflowConfig
from mageflow.engine import Engine
from mageflow.run.context import Client, CurrentRun, current_run
from mageflow.run.replay import id_outside
from mageflow.run.tasks import Tasks
from mageflow.store.link import RedisSource


class ClientHost:
    """Opens and closes the engine of a client; see `mageflow.backends.base.Host` for what its backend asks of it.

    Args:
        source: where Redis is; nothing: an embedded server with its data in `directory`.
        adopt: registers the tasks that were declared before the client.
    """

    def __init__(
        self,
        *,
        source: RedisSource | None,
        directory: Path,
        config: MageflowConfig,
        backend: Backend,
        tasks: Tasks,
        adopt: Callable[[], object],
        client: Client,
    ) -> None:
        self._engines: dict[asyncio.AbstractEventLoop, Engine] = {}
        self._closing: dict[asyncio.AbstractEventLoop, Engine] = {}
        self._source = source
        self._directory = directory
        self._config = config
        self._backend = backend
        self._tasks = tasks
        self._adopt = adopt
        self._client = client
        self._server: EmbeddedServer | None = None
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._opened_by_worker: set[asyncio.AbstractEventLoop] = set()
        self._stopped: set[asyncio.AbstractEventLoop] = set()

    @property
    def engine(self) -> Engine | None:
        """The engine of the running loop, where it is open."""
        return self._engines.get(asyncio.get_running_loop())

    async def open(self) -> Engine:
        """Return the engine of the running loop, opened if need be.

        A worker of the task manager may have a loop of its own, beside that of whoever signs in the same process. While
        the engine closes, what still runs on it gets it, and no other.

        Raises:
            StoreUnavailableError: Redis cannot be reached.
            EmbeddedServerError: the embedded server cannot be started.
        """
        loop = asyncio.get_running_loop()
        return self._closing.get(loop) or self.engine or await self._open(loop)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Engine:
        for gone in [other for other in self._engines if other.is_closed()]:
            # The connections went with the loop; the hold on the server did not.
            del self._engines[gone]
            self._opened_by_worker.discard(gone)
            self._stopped.discard(gone)
            self._opening.pop(gone, None)
        await self._release_server()
        async with self._opening.setdefault(loop, asyncio.Lock()):
            return self.engine or await self._connect(loop)

    async def _release_server(self) -> None:
        if not self._engines and not self._closing and self._server is not None:
            server, self._server = self._server, None
            await server.release()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Engine:
        source = self._source
        server = None
        if source is None:
            server = self._server or await EmbeddedServer.acquire(self._directory)
            source = server.url
        engine = None
        try:
            engine = Engine(source, self._config, self._backend, self._tasks, self._client)
            await engine.open()
        except BaseException:
            if engine is not None:
                await engine.close()
            if server is not None and self._server is None:
                await server.release()
            raise
        self._server, self._engines[loop] = server, engine
        return engine

    @property
    def running_loop(self) -> asyncio.AbstractEventLoop | None:
        """A loop that runs and on which the client is open."""
        return next((loop for loop in tuple(self._engines) if loop.is_running()), None)

    async def close(self) -> None:
        """Close the engine of the running loop; what runs on it ends first."""
        loop = asyncio.get_running_loop()
        async with self._opening.setdefault(loop, asyncio.Lock()):
            engine = self._engines.pop(loop, None)
        self._opened_by_worker.discard(loop)
        if engine is None:
            return
        self._closing[loop] = engine
        try:
            await engine.close()
        finally:
            del self._closing[loop]
            await self._release_server()

    async def begin(self, delivery: Delivery, task_name: str) -> Execution | str:
        """Ask whether a delivery may run; who takes deliveries is a worker, until it is stopped."""
        loop = asyncio.get_running_loop()
        engine = self._closing.get(loop) or self.engine
        if (loop in self._stopped) if engine is None else engine.watch_is_over:
            return "worker stopped"
        engine = engine or await self._open(loop)
        await engine.keep_watch()
        return await engine.runner.begin(delivery, task_name)

    async def manager_run(self, identifier: str) -> str:
        """Return the task manager's id of the newest run of a signature."""
        return await (await self.open()).store.manager_run(identifier)

    def outside(self, manager_run: str) -> Callable[[], None]:
        """Enter a run that belongs to no flow; returns what leaves it."""
        before = current_run.get()
        identifier = id_outside(self._config.namespace, manager_run)
        current_run.set(CurrentRun(client=self._client, id=identifier, run=0, attempt=1))

        def leave() -> None:
            current_run.set(before)

        return leave

    async def worker_started(self) -> None:
        """Start what a worker needs beside its deliveries."""
        self._adopt()
        loop = asyncio.get_running_loop()
        self._stopped.discard(loop)
        if self.engine is None:
            self._opened_by_worker.add(loop)
        engine = self.engine or await self._open(loop)
        await engine.keep_watch()

    async def worker_stopped(self) -> None:
        """Stop what `worker_started` started."""
        loop = asyncio.get_running_loop()
        self._stopped.add(loop)
        if loop in self._opened_by_worker:
            await self.close()
        elif self.engine is not None:
            await self.engine.stop_watch()
