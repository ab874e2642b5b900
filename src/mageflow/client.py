"""The client: the facade over store, backend, dispatcher and runner."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mageflow.backends.base import TaskOptions
from mageflow.backends.resolve import make_backend
from mageflow.backends.server import DEFAULT_DIRECTORY
from mageflow.config import AcceptParams, MageflowConfig
from mageflow.host import ClientHost
from mageflow.registry import add_client
from mageflow.run.binding import bind
from mageflow.run.tasks import Tasks
from mageflow.session import Session
from mageflow.store.keys import Keys
from mageflow.store.link import RedisSource
from mageflow.verbs import Verbs


class Mageflow(Verbs):
    """Flows on a task manager, with state in Redis or Valkey.

    Around a client of the task manager that you run - a `taskiq.AsyncBroker`, a `hatchet_sdk.Hatchet` - it behaves as
    that one: every attribute of it is an attribute of this one. Without one it runs on the embedded default: a Valkey
    server with its data in `.mageflow/` of the working directory and a queue on it.

    Nothing is opened and nothing runs before the first use.

    Args:
        hatchet_client: the task manager's client, of whichever task manager; also by the name `client`.
        redis_client: a `redis.asyncio.Redis`, a URL, or nothing: `REDIS_URL` of the environment, else the embedded
            server.
        param_config: what task functions take.
        config: all other settings.

    Raises:
        UnknownManagerError: no backend is known for the task manager's client.
    """

    def __init__(
        self,
        hatchet_client: object | None = None,
        redis_client: RedisSource | None = None,
        param_config: AcceptParams | None = None,
        config: MageflowConfig | None = None,
        *,
        client: object | None = None,
    ) -> None:
        if client is not None and hatchet_client is not None:
            msg = "Mageflow takes one task manager's client: the first argument and client= are the same"
            raise TypeError(msg)
        config = config or MageflowConfig()
        self.config = config if param_config is None else config.model_copy(update={"param_config": param_config})
        manager = hatchet_client if client is None else client
        queue = Keys(self.config.namespace).queue
        self._backend = make_backend(manager, namespace=self.config.namespace, queue=queue)
        self._tasks = Tasks(self._backend.found)
        self._host = ClientHost(
            source=redis_client or os.environ.get("REDIS_URL"),
            directory=Path(os.environ.get("MAGEFLOW_DIRECTORY", DEFAULT_DIRECTORY)),
            config=self.config,
            backend=self._backend,
            tasks=self._tasks,
            client=self,
        )
        self._backend.attach(self._host)
        self._session = Session(self.config, self._tasks, self._host.open, self)
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
        self._tasks.check_name(name)
        binding = bind(name, task.function, task.input_validator, skip=self._backend.filled_parameters(task))
        decorated, definition = self._backend.register(task)
        self._tasks.add(binding, definition, decorated, task.function)
        return decorated

    async def startup(self) -> None:
        """Open the client: reach Redis (starting the embedded server if it is needed), make its tasks known.

        The first call of a verb does it too.

        Raises:
            StoreUnavailableError: Redis cannot be reached.
            EmbeddedServerError: the embedded server cannot be started.
        """
        await self._host.open()

    async def shutdown(self) -> None:
        """Close the client; what runs in this process ends first."""
        await self._host.close()

    @asynccontextmanager
    async def worker(self, *, slots: int = 100) -> AsyncGenerator[Mageflow]:
        """Run tasks in this process while the context is open; its exit lets running tasks end.

        Args:
            slots: tasks that run at a time.

        Raises:
            StoreUnavailableError: Redis cannot be reached, or may evict records.
        """
        was_open = self._host.engine is not None
        engine = await self._host.open()
        try:
            await engine.serve(slots)
            yield self
        finally:
            if was_open and self._host.engine is engine:
                await engine.stop_serving()
            else:
                await self.shutdown()
