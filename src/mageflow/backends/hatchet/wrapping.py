"""User functions as Hatchet runs them: outside a flow they are themselves."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hatchet_sdk import Context, DurableContext, NonRetryableException
from hatchet_sdk.exceptions import RetryAfterException
from hatchet_sdk.runnables.contextvars import ctx_additional_metadata  # pyright: ignore[reportMissingTypeStubs]
from pydantic import BaseModel

from mageflow.backends.base import Delivery, Execution, Finding, Host, RunState
from mageflow.backends.hatchet.output import as_output, output_type, shown
from mageflow.backends.hatchet.shape import Invalid, Shape, plain_arguments, raw_input
from mageflow.backends.hatchet.wire import NOTE, WORKFLOW, delivery_of, metadata_of_user
from mageflow.backends.hatchet.workflows import Followers

logger = logging.getLogger("mageflow.hatchet")

T = TypeVar("T")
_PARKED = 30.0
"""Seconds after which somebody looks after a durable task that waits without a worker."""
_OVERLAP = 8.0
"""Seconds that a replay waits for the worker that it replaces to lose its lease."""
_TURN = 0.5
_WITHDRAWN = 5.0
"""Seconds in which Hatchet cancels a run, at the most."""
_ANSWERED = 60.0
"""Seconds that a run which Hatchet took away waits for an answer why, while the engine cannot be reached."""
_LOOK = 0.02
_UNAVAILABLE = "the flows' store is not available"
_NOT_NOW = (_UNAVAILABLE, "store unavailable")


class Engine(Protocol):
    """What a wrapped function needs of the backend."""

    namespace: str
    host: Host | None

    @property
    def threads(self) -> ThreadPoolExecutor:
        """The threads of plain functions."""
        ...

    async def ask(self, run: str) -> tuple[Finding, bool]:
        """Return what became of a run, and whether it waits without a worker."""
        ...

    async def cancel(self, run: str) -> None:
        """Cancel a run, as far as the engine can be reached."""
        ...

    @property
    def followers(self) -> Followers:
        """The runs of several tasks that this process follows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A function with what is known of its task; `backoff` are its factor and its most seconds.

    `wraps`: a value that Hatchet does not take is put into a mapping.
    """

    name: str
    function: Callable[..., Any]
    shape: Shape
    validator: Any
    retries: int
    backoff: tuple[float | None, int | None] = (None, None)
    wraps: bool = True

    @property
    def returns(self) -> Any:
        """Its return annotation."""
        return self.shape.hints.get("return")


def wrap(task: Wrapped, engine: Engine) -> Callable[..., Any]:
    """Return a function for Hatchet's decorators."""
    dependencies = task.shape.dependencies

    async def run(message: Any, ctx: Context, **filled: Any) -> Any:
        return await _Run(task, engine, ctx, filled).go(message)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(run, name, getattr(task.function, name, None))
    kinds = {p.name: p.replace(kind=p.KEYWORD_ONLY) for p in task.shape.parameters}
    positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("message", "ctx")]
    hints = {name: task.shape.hints[name] for name in dependencies if name in task.shape.hints}
    named = [kinds[name].replace(annotation=hints.get(name, kinds[name].annotation)) for name in dependencies]
    signature = inspect.Signature([*positional, *named])
    setattr(run, "__signature__", signature)  # noqa: B010 - what inspect.signature reads, no attribute to pyright
    run.__annotations__ = {**hints, "return": output_type(task.returns)}
    return run


def keep_mock_run(made: Any, function: Callable[..., Any]) -> Any:
    """Let users test a plain function by Hatchet's `mock_run`, though Hatchet has a coroutine function of it."""

    def mock_run(*args: Any, **options: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:  # there may be a running loop in this one
            return thread.submit(lambda: asyncio.run(made.aio_mock_run(*args, **options))).result()

    if not inspect.iscoroutinefunction(function):
        made.mock_run = mock_run
    return made


async def _through(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, whoever cancels meanwhile: our own records are not left half-made."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            _forget_cancel()
        except BaseException:  # noqa: BLE001 - it is raised again below
            break
    return task.result()


def _forget_cancel() -> None:
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()


class _Run:
    """One delivery by Hatchet."""

    def __init__(self, task: Wrapped, engine: Engine, ctx: Context, filled: dict[str, Any]) -> None:
        self._task = task
        self._engine = engine
        self._ctx = ctx
        self._extra = filled if task.shape.context is None else {**filled, task.shape.context: ctx}
        self._blocking = not inspect.iscoroutinefunction(task.function)
        self._thread: asyncio.Future[tuple[Any, BaseException | None]] | None = None

    async def go(self, message: Any) -> Any:
        """Run the function, or say why it does not run."""
        ctx = self._ctx
        run = ctx.workflow_run_id
        delivery = delivery_of(ctx.additional_metadata, self._engine.namespace, ctx.retry_count, run)
        if delivery is None or self._engine.host is None:
            return await self._plain(message, run)
        # What it runs by Hatchet inherits the metadata, and is no delivery of this signature.
        ctx_additional_metadata.set(metadata_of_user(ctx.additional_metadata))
        if WORKFLOW in ctx.additional_metadata:
            return await self._step(self._engine.host, delivery, message)
        answer = await self._begin(self._engine.host, delivery)
        if isinstance(answer, str):
            if answer == "canceled":
                await self._withdraw()
            return {NOTE: f"not run: {answer}"}
        if ctx.is_cancelled:  # while it asked
            await _through(self._canceled(answer, delivery))
            raise asyncio.CancelledError
        return await self._run(answer, delivery, message)

    async def _step(self, host: Host, delivery: Delivery, message: Any) -> Any:
        """Run as a task of a workflow that is one signature."""
        run = self._ctx.workflow_run_id
        name = self._ctx.additional_metadata[WORKFLOW]
        answer = await self._ask(host, delivery, name)
        while answer in _NOT_NOW:
            await asyncio.sleep(_TURN)
            answer = await self._ask(host, delivery, name)
        if not isinstance(answer, str):
            self._engine.followers.start(answer, delivery, self._values(message))
        elif answer != "duplicate" or await host.manager_run(delivery.id) != run:
            await self._withdraw()
            return {NOTE: f"not run: {answer}"}
        try:
            return await self._plain(message, f"{run} {self._task.name}")
        except asyncio.CancelledError as error:
            if self._ctx.is_cancelled:
                raise
            _forget_cancel()
            raise _as_exception(error) from error
        except BaseException as error:
            raise _as_exception(error) from error
        finally:
            self._engine.followers.nudge(run)

    async def _plain(self, message: Any, run: str) -> Any:
        """Run as without MageFlow; what it creates is the same again at Hatchet's next attempt."""
        leave = self._engine.host.outside(run) if self._engine.host is not None else None
        try:
            return await self._plainly(message)
        finally:
            if leave is not None:
                leave()

    async def _plainly(self, message: Any) -> Any:
        if isinstance(message, Invalid):
            raise message.error
        args, kwargs = plain_arguments(self._task.shape, self._task.validator, message)
        call = functools.partial(self._task.function, *args, **kwargs, **self._extra)
        value, error = await self._in_thread(call) if self._blocking else (await call(), None)
        if error is not None:
            raise error
        return as_output(value, self._task.returns) if self._task.wraps else value

    async def _begin(self, host: Host, delivery: Delivery) -> Execution | str:
        """Ask whether the delivery runs; a durable task's replay waits for the lease of the worker that it replaces."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _OVERLAP
        replay = isinstance(self._ctx, DurableContext) and self._ctx.invocation_count > 1
        while True:
            answer = await self._ask(host, delivery, self._task.name)
            if answer != "duplicate" or not replay or loop.time() > until:
                return answer
            await asyncio.sleep(_TURN)

    @staticmethod
    async def _ask(host: Host, delivery: Delivery, name: str) -> Execution | str:
        try:
            return await _through(host.begin(delivery, name))
        except Exception as error:  # noqa: BLE001 - our own failure: the row is offered again, no code runs
            logger.warning("%s does not start now, it will be offered again: %r", delivery.id, error)
            return _UNAVAILABLE

    async def _run(self, execution: Execution, delivery: Delivery, message: Any) -> Any:
        values = self._values(message)
        problem: BaseException | None = None
        try:
            if self._blocking:
                call = functools.partial(execution.call_blocking, values, self._extra)
                value, problem = await self._in_thread(call)
            else:
                value = await execution.call(values, self._extra)
        except asyncio.CancelledError as error:
            _forget_cancel()
            if self._ctx.is_cancelled:
                await _through(self._canceled(execution, delivery))
                raise
            return await _through(self._failed(execution, delivery, error))
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome; SystemExit would end the worker
            value, problem = None, error
        if self._ctx.is_cancelled and not execution.stopped:  # it saw that, and left: Hatchet takes nothing more of it
            await _through(self._canceled(execution, delivery))
            raise asyncio.CancelledError
        if problem is not None:
            return await _through(self._failed(execution, delivery, problem))
        await _through(execution.ended(None))
        return shown(value, self._task.returns)

    def _values(self, message: Any) -> dict[str, Any]:
        raw = raw_input.get()
        return dict(raw) if raw is not None else _values_of(message)

    async def _failed(self, execution: Execution, delivery: Delivery, error: BaseException) -> Any:
        """Record that an attempt failed, before Hatchet learns of it; raise what Hatchet is to show."""
        cause = error.__cause__ if isinstance(error, NonRetryableException) else None
        final = execution.final(error) or isinstance(error, NonRetryableException)
        if not final and execution.attempt < self._task.retries:
            await execution.retried(delivery.attempt + 1, self._delay(error, execution.attempt + 1), error)
            raise _as_exception(error)
        await execution.ended(error)
        if execution.stopped:
            if not execution.overtaken:
                await self._withdraw()
            return {NOTE: "stopped"}
        if isinstance(error, NonRetryableException):
            raise error from cause
        used_before_this_run = delivery.attempt - self._ctx.retry_count
        if execution.attempt - used_before_this_run >= self._task.retries:
            raise _as_exception(error)
        text = f"{type(error).__name__}: {error}"
        raise NonRetryableException(text) from error

    async def _withdraw(self) -> None:
        """Have Hatchet cancel this run, and wait until it did: one that ended before would be shown as completed."""
        await self._engine.cancel(self._ctx.workflow_run_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + _WITHDRAWN
        while not self._ctx.is_cancelled and loop.time() < until:  # noqa: ASYNC110 - Hatchet's context has no event
            await asyncio.sleep(_LOOK)

    def _delay(self, error: BaseException, attempt: int) -> float:
        """Return the seconds until Hatchet's next attempt."""
        if isinstance(error, RetryAfterException):
            return error.after_ms / 1000
        factor, most = self._task.backoff
        if not factor:
            return 0.0
        return min(factor**attempt, most if most is not None else float("inf"), 86_400.0)

    async def _canceled(self, execution: Execution, delivery: Delivery) -> None:
        """Hatchet took the run away: its user canceled it, its time is up, or it waits without a worker."""
        finding, evicted = await self._found()
        if evicted:
            await execution.retried(delivery.attempt, _PARKED, TimeoutError("it waits without a worker"))
        elif finding.state is RunState.CANCELED:
            if self._thread is not None:
                await asyncio.wait([self._thread])
            await execution.canceled()
        elif finding.state is RunState.FAILED:
            await execution.ended(TimeoutError(finding.reason or "its execution time is up"))
        elif finding.state in {RunState.QUEUED, RunState.RUNNING} and execution.attempt < self._task.retries:
            await execution.retried(delivery.attempt + 1, 0.0, TimeoutError("its execution time is up"))
        elif finding.state in {RunState.QUEUED, RunState.RUNNING}:
            await execution.ended(TimeoutError("its execution time is up"))
        else:
            await execution.released()

    async def _found(self) -> tuple[Finding, bool]:
        """Ask what became of this run until there is an answer: without one its task would run again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _ANSWERED
        while True:
            finding, evicted = await self._engine.ask(self._ctx.workflow_run_id)
            if finding.state is not RunState.UNKNOWN or loop.time() > until:
                return finding, evicted
            await asyncio.sleep(_TURN)

    async def _in_thread(self, call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """Run a plain function in a thread with the context variables of this run; return its value or its error.

        The thread goes on when this is canceled.
        """

        def carried() -> tuple[Any, BaseException | None]:
            try:
                return call(), None
            except BaseException as error:  # noqa: BLE001 - not every error can be raised out of a thread
                return None, error

        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        self._thread = loop.run_in_executor(self._engine.threads, functools.partial(context.run, carried))
        return await asyncio.shield(self._thread)


def _values_of(message: Any) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return {str(name): value for name, value in message.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - a user's mapping
    return message.model_dump(mode="json") if isinstance(message, BaseModel) else {}


def _as_exception(error: BaseException) -> Exception:
    """Return an error that Hatchet's worker survives."""
    if isinstance(error, Exception):
        return error
    problem = RuntimeError(f"the task raised {type(error).__name__}: {error}")
    problem.__cause__ = error
    return problem
