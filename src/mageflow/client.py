"""The client: the facade over store, backend, dispatcher and runner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mageflow.backends.base import TaskOptions
from mageflow.backends.resolve import make_backend
from mageflow.backends.server import DEFAULT_DIRECTORY, EmbeddedServer
from mageflow.config import AcceptParams, MageflowConfig
from mageflow.engine import Engine
from mageflow.errors import TaskNameError
from mageflow.flow.task import TaskDefinition
from mageflow.registry import add_client
from mageflow.run.binding import Binding, bind
from mageflow.session import Session
from mageflow.store.keys import Keys
from mageflow.store.link import RedisSource
from mageflow.verbs import Verbs


class Mageflow(Verbs):
    """Flows on a task manager, with state in Redis or Valkey.

    Without arguments it runs on the embedded default: a Valkey server with its data in `.mageflow/` of the working
    directory and a queue on it. Every attribute of the task manager's client is an attribute of this one.

    Args:
        redis_client: a `redis.asyncio.Redis`, a URL, or nothing: `REDIS_URL` of the environment, else the embedded
            server.
        param_config: what task functions take.
        config: all other settings.
    """

    def __init__(
        self,
        *,
        redis_client: RedisSource | None = None,
        param_config: AcceptParams | None = None,
        config: MageflowConfig | None = None,
    ) -> None:
        config = config or MageflowConfig()
        self.config = config if param_config is None else config.model_copy(update={"param_config": param_config})
        self._source: RedisSource | None = redis_client or os.environ.get("REDIS_URL")
        self._directory = Path(os.environ.get("MAGEFLOW_DIRECTORY", DEFAULT_DIRECTORY))
        self._backend = make_backend(Keys(self.config.namespace).queue)
        self._bindings: dict[str, Binding] = {}
        self._definitions: dict[str, TaskDefinition] = {}
        self._things: list[tuple[object, str]] = []
        self._server: EmbeddedServer | None = None
        self._engine: Engine | None = None
        self._opening = asyncio.Lock()
        self._session = Session(self.config, self._bindings, self._open, self)
        add_client(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._backend.manager, name)

    def task(
        self,
        name: str | Callable[..., Any] | None = None,
        *,
        input_validator: type[BaseModel] | None = None,
        retries: int = 0,
        execution_timeout: timedelta | float | None = None,
        **options: Any,
    ) -> Any:
        """Register a function as a task; returns the task object of the task manager.

        Args:
            name: in the namespace; the function's own by default.
            input_validator: model of the message; the first parameter's annotation by default.
            retries: further attempts after the first.
            execution_timeout: seconds or timedelta.
            options: options of the task manager.

        Raises:
            TaskNameError: the name is empty, taken or starts with `mf:`.
        """

        def decorate(function: Callable[..., Any]) -> Any:
            given = name if isinstance(name, str) else function.__name__
            task = TaskOptions(
                function=function,
                name=given,
                input_validator=input_validator,
                retries=retries,
                execution_timeout=execution_timeout,
                param_config=self.config.param_config,
                options=options,
            )
            return self._register(task, given)

        return decorate(name) if callable(name) else decorate

    def _register(self, task: TaskOptions, name: str) -> Any:
        if name in self._bindings:
            raise TaskNameError(name, "another function is registered under it")
        TaskDefinition(name=name)
        binding = bind(name, task.function, task.input_validator, skip=self._backend.filled_parameters(task))
        decorated, definition = self._backend.register(task)
        definition = definition.described(injection=binding.injection, schema=binding.schema)
        self._bindings[name] = binding
        self._definitions[name] = definition
        for thing in (decorated, task.function):
            self._things.append((thing, name))
            if self._engine is not None:
                self._engine.planner.remember(thing, name)
        if self._engine is not None:
            self._engine.register_soon(definition)
        return decorated

    async def startup(self) -> None:
        """Open the client: reach Redis (starting the embedded server if it is needed), make its tasks known.

        The first call of a verb does it too.

        Raises:
            StoreUnavailableError: Redis cannot be reached.
            EmbeddedServerError: the embedded server cannot be started.
        """
        await self._open()

    async def shutdown(self) -> None:
        """Close the client; what runs in this process ends first."""
        engine, self._engine = self._engine, None
        server, self._server = self._server, None
        try:
            if engine is not None:
                await engine.close()
        finally:
            if server is not None:
                await server.release()

    @asynccontextmanager
    async def worker(self, *, slots: int = 100) -> AsyncGenerator[Mageflow]:
        """Run tasks in this process while the context is open; its exit lets running tasks end.

        Args:
            slots: tasks that run at a time.

        Raises:
            StoreUnavailableError: Redis cannot be reached, or may evict records.
        """
        was_open = self._engine is not None
        engine = await self._open()
        try:
            await engine.serve(slots)
            yield self
        finally:
            if was_open and self._engine is engine:
                await engine.stop_serving()
            else:
                await self.shutdown()

    async def _open(self) -> Engine:
        engine = self._engine
        if engine is not None and engine.loop is asyncio.get_running_loop():
            return engine
        async with self._opening:
            if self._engine is not None and self._engine.loop is not asyncio.get_running_loop():
                # The loop of the last use is gone, and the connections with it; the hold on the server is not.
                server, self._engine, self._server = self._server, None, None
                if server is not None:
                    await server.release()
            return self._engine or await self._connect()

    async def _connect(self) -> Engine:
        source = self._source
        server = None
        if source is None:
            server = await EmbeddedServer.acquire(self._directory)
            source = server.url
        try:
            engine = Engine(source, self.config, self._backend, self._bindings, self)
            await engine.open(list(self._definitions.values()))
        except BaseException:
            if server is not None:
                await server.release()
            raise
        self._server, self._engine = server, engine
        for thing, name in self._things:
            engine.planner.remember(thing, name)
        return engine
