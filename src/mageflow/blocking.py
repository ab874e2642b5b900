"""The verbs for synchronous code: each call runs on an event loop in another thread and returns when it is through."""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from mageflow.config import MageflowConfig
from mageflow.run.thread import run_on_loop
from mageflow.transaction import Entered
from mageflow.twins import Caller, SyncMap, SyncSignature, SyncSwarm, wrapped
from mageflow.verbs import Verbs

P = ParamSpec("P")
R = TypeVar("R")


class BackgroundLoop:
    """An event loop in a thread of its own; both begin with the first call and end with the process, or `close`.

    Args:
        tidy: is run on the loop before it ends.
    """

    def __init__(self, tidy: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tidy = tidy
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the loop; it runs."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="mageflow-sync", daemon=True)
                runs = threading.Event()
                self._loop.call_soon(runs.set)
                self._thread.start()
                runs.wait()
                atexit.register(self.close)
            return self._loop

    def close(self) -> None:
        """Stop the loop and its thread, where they run."""
        with self._starting:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        run_on_loop(self._tidy(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Blocking(Verbs):
    """A client, with its verbs for synchronous code."""

    @property
    def sync(self) -> SyncVerbs:
        """The same verbs for synchronous code; see `mageflow.blocking.SyncVerbs`."""
        return SyncVerbs(lambda: self)

    @property
    @abstractmethod
    def loop_for_sync(self) -> asyncio.AbstractEventLoop:
        """The loop on which calls of synchronous code run: one where the client is open, else its background loop."""

    @abstractmethod
    def end_sync(self) -> None:
        """Close the client where it is open, and its background loop."""

    @abstractmethod
    async def startup(self) -> None:
        """Open the client."""

    @abstractmethod
    def worker(self, *args: Any, **options: Any) -> Any:
        """Return a worker: a context while which tasks run in this process, or the task manager's own."""


def _verb(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[SyncVerbs, P], R]:
    """Return a verb of a client for synchronous code."""

    @functools.wraps(method)
    def call(self: SyncVerbs, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.caller.run(lambda client: method(client, *args, **kwargs))

    return call


class SyncVerbs:
    """The verbs of a client for synchronous code: the same names and arguments; they block.

    Calls run where the client is open - on the loop of a worker of this process, say -, else on one loop in the
    background, which the first call starts. Each raises `SyncInLoopError` in a thread that runs an event loop.
    """

    def __init__(self, find: Callable[[], Blocking]) -> None:
        self.caller = Caller(find)

    def asign(self, task: object = None, /, **options: Any) -> SyncSignature:
        """Create a task signature; see `Mageflow.asign`."""
        return wrapped(self.caller, self.caller.run(lambda client: client.asign(task, **options)))

    def achain(self, tasks: Iterable[object], name: str | None = None, **options: Any) -> SyncSignature:
        """Create a chain; see `Mageflow.achain`."""
        return wrapped(self.caller, self.caller.run(lambda client: client.achain(tasks, name, **options)))

    def aswarm(self, tasks: Iterable[object] | None = None, task_name: str | None = None, **options: Any) -> SyncSwarm:
        """Create a swarm; see `Mageflow.aswarm`."""
        return SyncSwarm(self.caller, self.caller.run(lambda client: client.aswarm(tasks, task_name, **options)))

    def amap(self, task: object, items: Iterable[object] | None = None, **options: Any) -> SyncMap:
        """Create a map; its items are taken from the iterable in the calling thread; see `Mageflow.amap`."""
        made = SyncMap(self.caller, self.caller.run(lambda client: client.amap(task, **options)))
        if items is not None:
            made.add_items(items)
            made.close_swarm()
        return made

    map = amap

    def aswitch(
        self, chooser: object, cases: Mapping[Any, object], default: object = None, **options: Any
    ) -> SyncSignature:
        """Create a switch; see `Mageflow.aswitch`."""
        switch = self.caller.run(lambda client: client.aswitch(chooser, cases, default, **options))
        return wrapped(self.caller, switch)

    def load_signature(self, key: str) -> SyncSignature | None:
        """Return the signature of a key, or `None`; see `Mageflow.load_signature`."""
        signature = self.caller.run(lambda client: client.load_signature(key))
        return None if signature is None else wrapped(self.caller, signature)

    @contextmanager
    def abounded_field(self, *, ignore_redis_error: bool = False) -> Generator[None]:
        """Write what the block describes in one step at its exit; see `Mageflow.abounded_field`."""
        session = self.caller.find().session
        with Entered(session) as entered:
            yield
        if entered.outermost:
            self.caller.run(lambda _: session.finish(entered.block, ignore_redis_error=ignore_redis_error))

    why = _verb(Verbs.why)
    repair = _verb(Verbs.repair)
    pause = _verb(Verbs.pause)
    resume = _verb(Verbs.resume)
    interrupt = _verb(Verbs.interrupt)
    cancel = _verb(Verbs.cancel)
    remove = _verb(Verbs.remove)
    sign, chain, swarm, load_sign, resume_task = asign, achain, aswarm, load_signature, resume

    def startup(self) -> None:
        """Open the client; the first call does it too."""
        self.caller.run(lambda client: client.startup())

    @property
    def config(self) -> MageflowConfig:
        """The settings of the client."""
        return self.caller.find().config

    def shutdown(self) -> None:
        """Close the client where it is open, and its background loop."""
        self.caller.refuse_in_loop()
        self.caller.find().end_sync()

    @contextmanager
    def worker(self, *, slots: int = 100) -> Generator[None]:
        """Run tasks in this process while the context is open; see `Mageflow.worker`."""
        working = self.caller.run(lambda client: _entered(client, slots))
        try:
            yield
        finally:
            self.caller.run(lambda _: _left(working))


async def _entered(client: Blocking, slots: int) -> AbstractAsyncContextManager[object]:
    working = client.worker(slots=slots)
    await working.__aenter__()
    return working


async def _left(context: AbstractAsyncContextManager[object]) -> None:
    await context.__aexit__(None, None, None)
