"""The verbs for synchronous code: each call runs on an event loop in another thread and returns when it is through."""

# size: for each class of the public interface its blocking twin, one idea many times

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel
from typing_extensions import override

from mageflow.errors import SyncInLoopError
from mageflow.feed import CHUNK
from mageflow.flow.status import Status
from mageflow.handle import FlowHandle
from mageflow.run.thread import run_on_loop
from mageflow.signature import Kwargs, Signature
from mageflow.stream import ResultStream
from mageflow.swarm import MapSignature, SwarmSignature
from mageflow.transaction import Entered
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
        asyncio.run_coroutine_threadsafe(self._tidy(), loop).result()
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


class Caller:
    """Runs coroutines of a client from synchronous code: on the loop where it is open, else on its background loop."""

    def __init__(self, find: Callable[[], Blocking]) -> None:
        self.find = find

    def run(self, make: Callable[[Blocking], Coroutine[Any, Any, R]]) -> R:
        """Run what `make` returns for the client, and return its result.

        Raises:
            SyncInLoopError: the calling thread runs an event loop, which would stand still.
            LoopStoppedError: the loop stopped meanwhile.
        """
        self.refuse_in_loop()
        client = self.find()
        # The context of this thread goes along: the running task, the open transaction.
        return run_on_loop(make(client), client.loop_for_sync)

    def refuse_in_loop(self) -> None:
        """Refuse to block a loop."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise SyncInLoopError


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Wrapper, P], R]:
    """Return a method of a signature or a handle for synchronous code."""

    @functools.wraps(method)
    def call(self: Wrapper, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.caller.run(lambda _: method(self.wrapped, *args, **kwargs))

    return call


class Wrapper:
    """Something of a client, for synchronous code; `wrapped` is the thing itself."""

    def __init__(self, caller: Caller, wrapped: Any) -> None:
        self.caller = caller
        self.wrapped = wrapped

    @override
    def __repr__(self) -> str:
        return f"<sync {self.wrapped!r}>"


class SyncHandle(Wrapper):
    """`FlowHandle` for synchronous code."""

    wrapped: FlowHandle[Any]

    @property
    def key(self) -> str:
        """The key of the flow."""
        return self.wrapped.key

    def results(self, start: int = 0, *, ordered: bool = True) -> SyncStream:
        """Return the results of a map, one by one as they come; see `MapSignature.results`."""
        return SyncStream(self.caller, self.wrapped.results(start, ordered=ordered))

    status = _blocking(FlowHandle[Any].status)
    result = _blocking(FlowHandle[Any].result)


class SyncKwargs(Wrapper, Mapping[str, Any]):
    """`Kwargs` for synchronous code."""

    wrapped: Kwargs

    @override
    def __getitem__(self, name: str) -> Any:
        return self.wrapped[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.wrapped)

    @override
    def __len__(self) -> int:
        return len(self.wrapped)

    def __setitem__(self, name: str, value: object) -> None:
        """Set an argument in a transaction; see `Kwargs`."""
        self.wrapped[name] = value

    def update(self, values: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Set arguments in a transaction; see `Kwargs`."""
        self.wrapped.update(values, **kwargs)

    aupdate = _blocking(Kwargs.aupdate)
    apop = _blocking(Kwargs.apop)


class SyncSignature(Wrapper):
    """A signature for synchronous code: the same attributes, the same methods, which block."""

    wrapped: Signature[Any, Any]

    @property
    def key(self) -> str:
        """`mf:<namespace>:<ulid>`."""
        return self.wrapped.key

    @property
    def task_name(self) -> str | None:
        """The task that it runs; of a container, its name."""
        return self.wrapped.task_name

    @property
    def task_identifiers(self) -> Mapping[str, Any]:
        """What the user calls it by."""
        return self.wrapped.task_identifiers

    @property
    def task_status(self) -> Status:
        """The effective status at the last load."""
        return self.wrapped.task_status

    @property
    def creation_time(self) -> datetime:
        """When it was created."""
        return self.wrapped.creation_time

    @property
    def success_callbacks(self) -> tuple[str, ...]:
        """Keys of the templates that start on success."""
        return self.wrapped.success_callbacks

    @property
    def error_callbacks(self) -> tuple[str, ...]:
        """Keys of the templates that start on failure."""
        return self.wrapped.error_callbacks

    @property
    def kwargs(self) -> SyncKwargs:
        """The bound arguments."""
        return SyncKwargs(self.caller, self.wrapped.kwargs)

    @property
    def handle(self) -> SyncHandle:
        """Its handle, started or not."""
        return SyncHandle(self.caller, self.wrapped.handle)

    def aio_run_no_wait(
        self, msg: object = None, *, options: Mapping[str, Any] | BaseModel | None = None
    ) -> SyncHandle:
        """Start it and return a handle; see `Signature.aio_run_no_wait`."""
        handle = self.caller.run(lambda _: self.wrapped.aio_run_no_wait(msg, options=options))
        return SyncHandle(self.caller, handle)

    def aduplicate(self) -> SyncSignature:
        """Return a copy; see `Signature.aduplicate`."""
        return _wrapped(self.caller, self.caller.run(lambda _: self.wrapped.aduplicate()))

    def aduplicate_many(self, count: int) -> list[SyncSignature]:
        """Return so many copies; see `Signature.aduplicate`."""
        copies = self.caller.run(lambda _: self.wrapped.aduplicate_many(count))
        return [_wrapped(self.caller, copy) for copy in copies]

    arefresh = _blocking(Signature[Any, Any].arefresh)
    aio_run = _blocking(Signature[Any, Any].aio_run)
    suspend = _blocking(Signature[Any, Any].suspend)
    interrupt = _blocking(Signature[Any, Any].interrupt)
    resume = _blocking(Signature[Any, Any].resume)
    cancel = _blocking(Signature[Any, Any].cancel)
    pause_task = _blocking(Signature[Any, Any].pause_task)
    remove = _blocking(Signature[Any, Any].remove)


class SyncSwarm(SyncSignature):
    """A swarm for synchronous code; its snapshots are attributes of `wrapped`."""

    wrapped: SwarmSignature[Any, Any]  # pyright: ignore[reportIncompatibleVariableOverride] - set once

    def add_task(self, task: object, *, close_on_max_task: bool = True) -> SyncSignature:
        """Register a member; see `SwarmSignature.add_task`."""
        added = self.caller.run(lambda _: self.wrapped.add_task(task, close_on_max_task=close_on_max_task))
        return _wrapped(self.caller, added)

    def aio_run_in_swarm(
        self, tasks: object, msg: object = None, *, close_on_max_task: bool = True
    ) -> list[SyncSignature]:
        """Add members and start them with one message; see `SwarmSignature.aio_run_in_swarm`."""
        added = self.caller.run(
            lambda _: self.wrapped.aio_run_in_swarm(tasks, msg, close_on_max_task=close_on_max_task)
        )
        return [_wrapped(self.caller, member) for member in added]

    def aio_run_tasks_in_swarm(
        self, tasks: Iterable[object], msgs: Iterable[object], *, close_on_max_task: bool = True
    ) -> list[SyncSignature]:
        """Add members and start each with its message; see `SwarmSignature.aio_run_tasks_in_swarm`."""
        added = self.caller.run(
            lambda _: self.wrapped.aio_run_tasks_in_swarm(list(tasks), list(msgs), close_on_max_task=close_on_max_task)
        )
        return [_wrapped(self.caller, member) for member in added]

    @contextmanager
    def adding(self) -> Generator[SyncSwarm]:
        """Close the swarm at the exit; see `SwarmSignature.adding`."""
        try:
            yield self
        finally:
            self.close_swarm()

    is_swarm_done = _blocking(SwarmSignature[Any, Any].is_swarm_done)
    progress = _blocking(SwarmSignature[Any, Any].progress)
    members = _blocking(SwarmSignature[Any, Any].members)
    close_swarm = _blocking(SwarmSignature[Any, Any].close_swarm)


class SyncStream(Wrapper, Iterator[Any]):
    """`ResultStream` for synchronous code."""

    wrapped: ResultStream[Any]

    @override
    def __next__(self) -> Any:
        value = self.caller.run(lambda _: _next_of(self.wrapped))
        if value is _END:
            raise StopIteration
        return value

    @property
    def position(self) -> int:
        """Where a later stream goes on."""
        return self.wrapped.position

    @property
    def index(self) -> int:
        """The index of the item whose result came last."""
        return self.wrapped.index


class SyncMap(SyncSwarm):
    """A map for synchronous code."""

    wrapped: MapSignature[Any, Any]  # pyright: ignore[reportIncompatibleVariableOverride] - set once

    def add_items(self, items: Iterable[object], *, max_waiting: int | None = 10_000) -> None:
        """Add items, which are taken from the iterable in the calling thread; see `MapSignature.add_items`."""
        for first, chunk, error in _chunks(items):
            add = functools.partial(self.wrapped.add_items, chunk, max_waiting=max_waiting, first=first)
            self.caller.run(lambda _, add=add: add())
            if error is not None:
                raise error

    def item(self, index: int) -> SyncSignature:
        """Return an item; see `MapSignature.item`."""
        return _wrapped(self.caller, self.caller.run(lambda _: self.wrapped.item(index)))

    def results(self, start: int = 0, *, ordered: bool = True) -> SyncStream:
        """Return the results one by one as they come; see `MapSignature.results`."""
        return SyncStream(self.caller, self.wrapped.results(start, ordered=ordered))


_END = object()


async def _next_of(stream: ResultStream[Any]) -> Any:
    return await anext(stream, _END)


def _chunks(items: Iterable[object]) -> Iterator[tuple[int, list[object], Exception | None]]:
    """Yield what an iterable yields in lists, with the number of the first; with the last what it raised, if so."""
    first, chunk, problem = 0, list[object](), None
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == CHUNK:
                yield first, chunk, None
                first, chunk = first + CHUNK, []
    except Exception as error:  # noqa: BLE001 - it is raised by whoever adds, after what came before it
        problem = error
    yield first, chunk, problem


def _wrapped(caller: Caller, signature: Signature[Any, Any]) -> SyncSignature:
    if isinstance(signature, MapSignature):
        return SyncMap(caller, signature)
    kind = SyncSwarm if isinstance(signature, SwarmSignature) else SyncSignature
    return kind(caller, signature)


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
        return _wrapped(self.caller, self.caller.run(lambda client: client.asign(task, **options)))

    def achain(self, tasks: Iterable[object], name: str | None = None, **options: Any) -> SyncSignature:
        """Create a chain; see `Mageflow.achain`."""
        return _wrapped(self.caller, self.caller.run(lambda client: client.achain(tasks, name, **options)))

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
        return _wrapped(self.caller, switch)

    def load_signature(self, key: str) -> SyncSignature | None:
        """Return the signature of a key, or `None`; see `Mageflow.load_signature`."""
        signature = self.caller.run(lambda client: client.load_signature(key))
        return None if signature is None else _wrapped(self.caller, signature)

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
