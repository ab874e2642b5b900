"""The life of a client: opened by its first use, for one event loop at a time, closed by its last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mageflow.backends.base import Backend, Delivery, Execution
from mageflow.backends.server import EmbeddedServer
from mageflow.config import MageflowConfig
from mageflow.engine import Engine
from mageflow.run.context import Client
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
        self.engine: Engine | None = None
        self._source = source
        self._directory = directory
        self._config = config
        self._backend = backend
        self._tasks = tasks
        self._adopt = adopt
        self._client = client
        self._server: EmbeddedServer | None = None
        self._opening = asyncio.Lock()
        self._opened_by_worker = False

    async def open(self) -> Engine:
        """Return the engine of the running loop, opened if need be.

        Raises:
            StoreUnavailableError: Redis cannot be reached.
            EmbeddedServerError: the embedded server cannot be started.
        """
        engine = self.engine
        if engine is not None and engine.loop is asyncio.get_running_loop():
            return engine
        async with self._opening:
            if self.engine is not None and self.engine.loop is not asyncio.get_running_loop():
                # The loop of the last use is gone, and the connections with it; the hold on the server is not.
                server, self.engine, self._server = self._server, None, None
                if server is not None:
                    await server.release()
            return self.engine or await self._connect()

    async def _connect(self) -> Engine:
        source = self._source
        server = None
        if source is None:
            server = await EmbeddedServer.acquire(self._directory)
            source = server.url
        engine = None
        try:
            engine = Engine(source, self._config, self._backend, self._tasks, self._client)
            await engine.open()
        except BaseException:
            if engine is not None:
                await engine.close()
            if server is not None:
                await server.release()
            raise
        self._server, self.engine = server, engine
        return engine

    @property
    def running_loop(self) -> asyncio.AbstractEventLoop | None:
        """A loop that runs and on which the client is open."""
        engine = self.engine
        return engine.loop if engine is not None and engine.loop.is_running() else None

    async def close(self) -> None:
        """Close the engine; what runs in this process ends first."""
        engine, self.engine = self.engine, None
        server, self._server = self._server, None
        self._opened_by_worker = False
        try:
            if engine is not None:
                await engine.close()
        finally:
            if server is not None:
                await server.release()

    async def begin(self, delivery: Delivery, task_name: str) -> Execution | str:
        """Ask whether a delivery may run; who takes deliveries is a worker."""
        engine = await self.open()
        await engine.keep_watch()
        return await engine.runner.begin(delivery, task_name)

    async def worker_started(self) -> None:
        """Start what a worker needs beside its deliveries."""
        self._adopt()
        opened = self.engine is None
        engine = await self.open()
        self._opened_by_worker = opened or self._opened_by_worker
        await engine.keep_watch()

    async def worker_stopped(self) -> None:
        """Stop what `worker_started` started."""
        if self._opened_by_worker:
            await self.close()
        elif self.engine is not None:
            await self.engine.stop_watch()
