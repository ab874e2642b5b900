"""Runs user code: once for each accepted delivery, whatever happens around it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mageflow.backends.base import Delivery
from mageflow.dispatch.dispatcher import Dispatcher
from mageflow.errors import (
    InvalidMessageError,
    MageflowError,
    NonRetryableError,
    PayloadError,
    SignatureNotFoundError,
    StoreUnavailableError,
)
from mageflow.flow.choice import choice_of
from mageflow.flow.command import REFERENCE
from mageflow.flow.event import AttemptFailed, Failed, Replaced, Succeeded, error_json
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Json, dump, load
from mageflow.flow.signature import Persisted
from mageflow.run.beat import Beat
from mageflow.run.behaviour import draw_delay
from mageflow.run.binding import Binding
from mageflow.run.context import Client, CurrentRun, current_run
from mageflow.run.tasks import Tasks
from mageflow.run.thread import run_on_loop
from mageflow.store.codec import Answer, text
from mageflow.store.results import Results
from mageflow.store.store import Store

logger = logging.getLogger("mageflow.run")


class Runner:
    """Decides with the store which deliveries run, and reports how they end."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        tasks: Tasks,
        *,
        client: Client,
        worker: str,
    ) -> None:
        self.store = store
        self.results = Results(store)
        self.dispatcher = dispatcher
        self.client = client
        self.worker = worker
        self._tasks = tasks
        self._beat: Beat | None = None
        self._running: dict[tuple[str, int], RunnerExecution] = {}
        self._beginning = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def serve(self, make_beat: Callable[[Callable[[str, int], None]], Beat]) -> None:
        """Begin to keep the lease of this worker."""
        loop = asyncio.get_running_loop()
        self._beat = make_beat(lambda identifier, run: _call_soon(loop, self._stop, identifier, run))
        self._beat.start()

    async def idle(self) -> None:
        """Wait until every run that began here, or is about to, has reported its end."""
        await self._quiet.wait()

    async def close(self) -> None:
        """Give the lease up."""
        if self._beat is not None:
            await asyncio.to_thread(self._beat.stop)
            self._beat = None

    async def begin(self, delivery: Delivery, task_name: str) -> RunnerExecution | str:
        """Ask whether a delivery may run; a text says why not. One round trip."""
        self._beginning += 1
        self._quiet.clear()
        try:
            return await self._begin(delivery, task_name)
        finally:
            self._beginning -= 1
            self._settle()

    async def _begin(self, delivery: Delivery, task_name: str) -> RunnerExecution | str:
        key = key_of(self.store.config.namespace, delivery.id)
        binding = self._tasks.binding(task_name)
        if binding is None:
            return "unknown task"
        try:
            arguments = (delivery.id, delivery.dispatch, delivery.attempt, self.worker, delivery.manager_run)
            answer = await self.store.start(*arguments, once=not binding.behaviour.idempotent)
            if answer.status in {"held", "canceled"}:
                await self.dispatcher.dispatch((await self.store.turned_away(delivery.id)).ready)
        except StoreUnavailableError as error:
            logger.warning("%s does not start now, its row will be offered again: %s", key, error)
            return "store unavailable"
        except MageflowError:
            logger.exception("%s cannot start", key)
            return "broken record"
        if answer.status != "run":
            logger.info("%s does not run: %s", key, answer.status)
            return answer.status
        self.dispatcher.started(delivery.id)
        run, attempt, *source = answer.extra
        taken_over = text(source[0]) if source else ""
        execution = RunnerExecution(self, delivery.id, binding, key, run=run, attempt=attempt, source=taken_over)
        self._running[delivery.id, execution.run] = execution
        if self._beat is not None:
            self._beat.add(delivery.id, execution.run)
        return execution

    def forget(self, execution: RunnerExecution) -> None:
        """A run reported its end."""
        self._running.pop((execution.id, execution.run), None)
        self._settle()
        if self._beat is not None:
            self._beat.remove(execution.id, execution.run)

    def _settle(self) -> None:
        if not self._running and not self._beginning:
            self._quiet.set()

    def _stop(self, identifier: str, run: int) -> None:
        if execution := self._running.get((identifier, run)):
            execution.stop()


def _call_soon(
    loop: asyncio.AbstractEventLoop, callback: Callable[[str, int], None], identifier: str, run: int
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(callback, identifier, run)


async def _wait_for(value: Awaitable[Any]) -> Any:
    return await value


class RunStoppedError(Exception):
    """User code was stopped because its signature ended; nothing is reported."""


class RaisedInThreadError(Exception):
    """Carries an error out of a thread to whoever awaits it.

    A `StopIteration` cannot be the outcome of a future; a `GeneratorExit` would close the coroutine that awaits it, and
    other exits would pass for those of the worker.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(repr(raised))
        self.raised = raised


class RunnerExecution:
    """One delivery from its start to its end; see `mageflow.backends.base.Execution`."""

    def __init__(
        self,
        runner: Runner,
        identifier: str,
        binding: Binding,
        key: str,
        *,
        run: int,
        attempt: int,
        source: str,
    ) -> None:
        self.id = identifier
        self.run = run
        self.attempt = attempt
        """The attempts that were used before."""
        self._runner = runner
        self._binding = binding
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._overtaken = False
        self._lost = False
        self._retried = False
        self._raised: BaseException | None = None
        """What user code raised."""
        self._source = source
        self._outcome: Succeeded | Replaced | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop; see the interface."""
        return self._stopped

    @property
    def overtaken(self) -> bool:
        """Whether another run has taken over; see the interface."""
        return self._overtaken

    async def call(self, message: Json, extra: dict[str, Any]) -> Any:
        """Run an async function; see the interface."""
        if self._source:
            return await self._checked(self._source)
        message = await self._resolved(message)
        args, kwargs = self._binding.arguments(message)
        kwargs |= extra | await self._own_signature()
        token = current_run.set(self._context())
        self._task = asyncio.current_task()
        try:
            self._check_stopped()
            if delay := self._delay():
                await asyncio.sleep(delay)
            async with asyncio.timeout(self._binding.limit):
                value = await self._called(*args, **kwargs)
        except asyncio.CancelledError as error:
            if not self._stopped:
                raise
            self._uncancel()
            raise RunStoppedError(self._key) from error
        finally:
            self._task = None
            current_run.reset(token)
        return self._kept(value)

    async def _called(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self._binding.function(*args, **kwargs)
        except Exception as error:
            self._raised = error
            raise

    def call_blocking(self, message: Json, extra: dict[str, Any]) -> Any:
        """Run a plain function; see the interface."""
        try:
            return self._call_blocking(message, extra)
        except BaseException:
            # What goes wrong as the worker's loop stands still may have gone wrong because of that.
            self._lost = not self._loop.is_running()
            raise

    def _call_blocking(self, message: Json, extra: dict[str, Any]) -> Any:
        if self._source:
            return run_on_loop(self._checked(self._source), self._loop)
        if REFERENCE in message:
            message = run_on_loop(self._resolved(message), self._loop)
        args, kwargs = self._binding.arguments(message)
        if self._binding.signature is not None:
            extra = extra | run_on_loop(self._own_signature(), self._loop)
        token = current_run.set(self._context())
        try:
            time.sleep(self._delay())
            self._check_stopped()
            value = self._binding.function(*args, **kwargs, **extra)
            if inspect.isawaitable(value):
                value = run_on_loop(_wait_for(value), self._loop)
        except BaseException as error:
            self._raised = error
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            raise RaisedInThreadError(error) from error
        finally:
            current_run.reset(token)
        return self._kept(value)

    def final(self, error: BaseException) -> bool:
        """Whether no further attempt may follow; see the interface."""
        return self._stopped or self._lost or isinstance(error, (NonRetryableError, InvalidMessageError, PayloadError))

    async def retried(self, attempts_used: int, delay: float, error: BaseException) -> None:
        """Note that another attempt follows; see the interface."""
        self._retried = True
        event = AttemptFailed(
            id=self.id, run=self.run, attempts_used=attempts_used, delay=delay, error=self._error(error)
        )
        await self._runner.store.attempt_failed(event)
        self._runner.forget(self)

    async def ended(self, error: BaseException | None) -> None:
        """Record the outcome and dispatch what follows; see the interface."""
        if self._retried:
            return
        if self._lost and not self._stopped and self._binding.behaviour.idempotent:
            await self.released()
            return
        store = self._runner.store
        if self._stopped:
            answer = await store.stopped(self.id, self.run)
            self._overtaken = answer.status == "superseded"
        elif error is None and self._outcome is not None:
            answer = await store.apply(self._outcome)
        else:
            problem = error or RuntimeError("the task manager reported no outcome")
            answer = await store.apply(Failed(id=self.id, run=self.run, error=self._error(problem)))
        self._runner.forget(self)
        await self._go_on(answer)

    async def released(self) -> None:
        """Let the task be dispatched anew; see the interface."""
        answer = await self._runner.store.stopped(self.id, self.run)
        self._runner.forget(self)
        await self._go_on(answer)

    async def canceled(self) -> None:
        """Cancel the signature; see the interface."""
        answer = await self._runner.store.withdrawn(self.id, self.run)
        self._runner.forget(self)
        await self._go_on(answer)

    async def _go_on(self, answer: Answer) -> None:
        if answer.status != "recorded":
            logger.warning("what run %d of %s reported is discarded: %s", self.run, self._key, answer.status)
        try:
            await self._runner.dispatcher.dispatch(answer.ready)
        except Exception:
            logger.exception("what follows %s was not submitted, a sweeper will", self._key)

    def stop(self) -> None:
        """Stop user code: a coroutine gets CancelledError, the result of a thread is discarded."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def _check_stopped(self) -> None:
        """Leave where the word to stop came before user code began."""
        if self._stopped:
            raise RunStoppedError(self._key)

    def _uncancel(self) -> None:
        if self._task is not None:
            self._task.uncancel()

    async def _own_signature(self) -> dict[str, Any]:
        """Return the argument for a task that takes its signature; one round trip for those alone."""
        name = self._binding.signature
        return {} if name is None else {name: await self._runner.client.load_signature(self._key)}

    def _delay(self) -> float:
        return draw_delay(self._binding.behaviour.stagger, self._key)

    def _context(self) -> CurrentRun:
        return CurrentRun(client=self._runner.client, id=self.id, run=self.run, attempt=self.attempt + 1)

    async def _resolved(self, message: Json) -> Json:
        if REFERENCE not in message:
            return message
        field, identifier = message[REFERENCE]
        value = load(await self._runner.results.result(identifier), identifier)
        return {**{name: item for name, item in message.items() if name != REFERENCE}, field: value}

    def _kept(self, value: Any) -> Any:
        binding, config = self._binding, self._runner.store.config
        if isinstance(value, Persisted):
            if value.key != key_of(config.namespace, value.id):
                raise SignatureNotFoundError(value.key)
            checked = binding.returns is not None
            self._outcome = Replaced(id=self.id, run=self.run, by=value.id, checked=checked)
            return value.key
        value = binding.output(value)
        result = dump(value, f"the result of task {binding.name!r}", config.payload_limit)
        choice = choice_of(value, binding.tell)
        self._outcome = Succeeded(id=self.id, run=self.run, result=result, choice=choice)
        return value

    async def _checked(self, source: str) -> Any:
        """Take the result of what replaced the task for its own, if it fits the return annotation."""
        return self._kept(load(await self._runner.results.result(source), self._key))

    def _error(self, error: BaseException) -> bytes:
        raised = error.raised if isinstance(error, RaisedInThreadError) else error
        if isinstance(raised, TimeoutError) and not str(raised) and raised is not self._raised:
            ended_by, raised = raised, TimeoutError("it was not through within its time limit (execution_timeout)")
            raised.__cause__ = ended_by
        return error_json(raised, self._binding.name, self._key)
