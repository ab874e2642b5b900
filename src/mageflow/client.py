"""The client: the facade over store, backend, dispatcher and runner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from redis.asyncio import Redis
from typing_extensions import override

from mageflow.backends.resolve import make_backend
from mageflow.backends.server import DEFAULT_DIRECTORY
from mageflow.blocking import BackgroundLoop, Blocking
from mageflow.config import AcceptParams, MageflowConfig
from mageflow.declare import Declarations
from mageflow.errors import InvalidArgumentError
from mageflow.flow.checks import check_count, one_of, shown
from mageflow.host import ClientHost
from mageflow.registry import add_client
from mageflow.run.thread import run_on_loop
from mageflow.session import Session
from mageflow.store.keys import Keys
from mageflow.store.link import RedisSource

if TYPE_CHECKING:
    from hatchet_sdk import Hatchet
    from taskiq import AsyncBroker

    from mageflow.wrapped import HatchetMageflow, TaskiqMageflow


class Mageflow(Declarations, Blocking):
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
        InvalidArgumentError: another argument is of a wrong type.
    """

    if TYPE_CHECKING:

        @overload
        def __new__(cls, hatchet_client: Hatchet, *args: Any, **kwargs: Any) -> HatchetMageflow: ...
        @overload
        def __new__(cls, *args: Any, client: Hatchet, **kwargs: Any) -> HatchetMageflow: ...
        @overload
        def __new__(cls, hatchet_client: AsyncBroker | None = None, *args: Any, **kwargs: Any) -> TaskiqMageflow: ...
        @overload
        def __new__(cls, hatchet_client: object, *args: Any, **kwargs: Any) -> Self: ...
        def __new__(cls, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102 - for type checkers

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
        config = MageflowConfig() if config is None else config
        if not isinstance(config, MageflowConfig):  # pyright: ignore[reportUnnecessaryIsInstance] - users give it
            raise InvalidArgumentError("config", "a MageflowConfig", shown(config))
        if param_config is not None:
            params = one_of(AcceptParams, param_config, "param_config")
            config = config.model_copy(update={"param_config": params})
        if redis_client is not None and (not isinstance(redis_client, (str, Redis)) or redis_client == ""):  # pyright: ignore[reportUnnecessaryIsInstance] - users give it
            raise InvalidArgumentError("redis_client", "a redis.asyncio.Redis or a URL", shown(redis_client))
        manager = hatchet_client if client is None else client
        backend = make_backend(manager, namespace=config.namespace, queue=Keys(config.namespace).queue)
        super().__init__(config, backend)
        self._host = ClientHost(
            source=redis_client or os.environ.get("REDIS_URL"),
            directory=Path(os.environ.get("MAGEFLOW_DIRECTORY", DEFAULT_DIRECTORY)),
            config=self.config,
            backend=self._backend,
            tasks=self._tasks,
            adopt=self.adopt_declared,
            client=self,
        )
        self._backend.attach(self._host)
        self._session = Session(self.config, self._tasks, self._host.open, self)
        self._background = BackgroundLoop(self.shutdown)
        add_client(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._backend.manager, name)

    @property
    @override
    def loop_for_sync(self) -> asyncio.AbstractEventLoop:
        return self._host.running_loop or self._background.get()

    @override
    def end_sync(self) -> None:
        loop = self._host.running_loop
        if loop is not None:
            run_on_loop(self.shutdown(), loop)
        self._background.close()

    @override
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

    @override
    def worker(self, *args: Any, **options: Any) -> Any:
        """Return a worker.

        Where the task manager has workers of its own it is one of those, made with these arguments; it serves flows as
        well. Else it is a context: while it is open tasks run in this process, its exit lets running tasks end.

        Args:
            args: what the task manager's own `worker` takes.
            options: the same by name; for a context `slots`, the tasks that run at a time (100).

        Raises:
            StoreUnavailableError: Redis cannot be reached, or may evict records; at the start.
        """
        self.adopt_declared()
        made = self._backend.make_worker(*args, **options)
        return self._serving(*args, **options) if made is None else made

    @asynccontextmanager
    async def _serving(self, *, slots: int = 100) -> AsyncGenerator[Mageflow]:
        check_count(slots, "slots", least=1)
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
