"""Signatures, handles and streams for synchronous code: the same attributes, the same methods, which block."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel
from typing_extensions import override

from mageflow.arguments import Kwargs
from mageflow.config import SwarmConfig
from mageflow.errors import SyncInLoopError
from mageflow.feed import CHUNK
from mageflow.flow.status import Kind, Status
from mageflow.handle import FlowHandle
from mageflow.run.thread import run_on_loop
from mageflow.signature import Signature
from mageflow.stream import ResultStream
from mageflow.swarm import MapSignature, SwarmSignature

if TYPE_CHECKING:
    from mageflow.blocking import Blocking

P = ParamSpec("P")
R = TypeVar("R")


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
        # By name: the kind of what is wrapped may have a method of its own.
        return self.caller.run(lambda _: getattr(self.wrapped, method.__name__)(*args, **kwargs))

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
    def id(self) -> str:
        """The last part of the key."""
        return self.wrapped.id

    @property
    def kind(self) -> Kind:
        """What it is: task, chain, swarm or switch."""
        return self.wrapped.kind

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
        self,
        msg: object = None,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
    ) -> SyncHandle:
        """Start it and return a handle; see `Signature.aio_run_no_wait`."""
        handle = self.caller.run(lambda _: self.wrapped.aio_run_no_wait(msg, delay=delay, at=at, options=options))
        return SyncHandle(self.caller, handle)

    def aduplicate(self) -> SyncSignature:
        """Return a copy; see `Signature.aduplicate`."""
        return wrapped(self.caller, self.caller.run(lambda _: self.wrapped.aduplicate()))

    def aduplicate_many(self, count: int) -> list[SyncSignature]:
        """Return so many copies; see `Signature.aduplicate`."""
        copies = self.caller.run(lambda _: self.wrapped.aduplicate_many(count))
        return [wrapped(self.caller, copy) for copy in copies]

    arefresh = _blocking(Signature[Any, Any].arefresh)
    aio_run = _blocking(Signature[Any, Any].aio_run)
    suspend = _blocking(Signature[Any, Any].suspend)
    interrupt = _blocking(Signature[Any, Any].interrupt)
    resume = _blocking(Signature[Any, Any].resume)
    cancel = _blocking(Signature[Any, Any].cancel)
    pause_task = _blocking(Signature[Any, Any].pause_task)
    remove = _blocking(Signature[Any, Any].remove)


class SyncSwarm(SyncSignature):
    """A swarm for synchronous code."""

    wrapped: SwarmSignature[Any, Any]  # pyright: ignore[reportIncompatibleVariableOverride] - set once

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of the members at the last load, in order; the first 1000."""
        return self.wrapped.tasks

    @property
    def finished_tasks(self) -> tuple[str, ...]:
        """Keys of the members that are done."""
        return self.wrapped.finished_tasks

    @property
    def failed_tasks(self) -> tuple[str, ...]:
        """Keys of the members that failed or were canceled."""
        return self.wrapped.failed_tasks

    @property
    def current_running_tasks(self) -> tuple[str, ...]:
        """Keys of the members that have started and not ended."""
        return self.wrapped.current_running_tasks

    @property
    def tasks_left_to_run(self) -> tuple[str, ...]:
        """Keys of the members that have not started."""
        return self.wrapped.tasks_left_to_run

    @property
    def is_swarm_closed(self) -> bool:
        """Whether no more members can be added."""
        return self.wrapped.is_swarm_closed

    @property
    def config(self) -> SwarmConfig:
        """Its settings."""
        return self.wrapped.config

    def add_task(self, task: object, *, close_on_max_task: bool = True) -> SyncSignature:
        """Register a member; see `SwarmSignature.add_task`."""
        added = self.caller.run(lambda _: self.wrapped.add_task(task, close_on_max_task=close_on_max_task))
        return wrapped(self.caller, added)

    def aio_run_in_swarm(
        self, tasks: object, msg: object = None, *, close_on_max_task: bool = True
    ) -> list[SyncSignature]:
        """Add members and start them with one message; see `SwarmSignature.aio_run_in_swarm`."""
        added = self.caller.run(
            lambda _: self.wrapped.aio_run_in_swarm(tasks, msg, close_on_max_task=close_on_max_task)
        )
        return [wrapped(self.caller, member) for member in added]

    def aio_run_tasks_in_swarm(
        self, tasks: Iterable[object], msgs: Iterable[object], *, close_on_max_task: bool = True
    ) -> list[SyncSignature]:
        """Add members and start each with its message; see `SwarmSignature.aio_run_tasks_in_swarm`."""
        added = self.caller.run(
            lambda _: self.wrapped.aio_run_tasks_in_swarm(list(tasks), list(msgs), close_on_max_task=close_on_max_task)
        )
        return [wrapped(self.caller, member) for member in added]

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

    def add_items(self, items: Iterable[object], *, max_waiting: int | None = 10_000, first: int = 0) -> None:
        """Add items, which are taken from the iterable in the calling thread; see `MapSignature.add_items`."""
        for place, chunk, error in _chunks(items):
            add = functools.partial(self.wrapped.add_items, chunk, max_waiting=max_waiting, first=first + place)
            self.caller.run(lambda _, add=add: add())
            if error is not None:
                raise error

    def item(self, index: int) -> SyncSignature:
        """Return an item; see `MapSignature.item`."""
        return wrapped(self.caller, self.caller.run(lambda _: self.wrapped.item(index)))

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


def wrapped(caller: Caller, signature: Signature[Any, Any]) -> SyncSignature:
    """Return a signature for synchronous code."""
    if isinstance(signature, MapSignature):
        return SyncMap(caller, signature)
    kind = SyncSwarm if isinstance(signature, SwarmSignature) else SyncSignature
    return kind(caller, signature)
