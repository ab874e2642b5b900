"""The way of a flow's message through TaskIQ: from the broker to the user's function and back.

A message of a flow carries the task's arguments, and as labels the signature's key and the dispatch number. Two
middlewares see it. `Door`, the last, asks whether it may run, when all others have done what they do to messages.
`Recorder`, the first, sees the messages of retries before they leave, and records the outcome when all others have
decided about it; both before the acknowledgement.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.labels import LabelType
from taskiq.middlewares import SmartRetryMiddleware
from typing_extensions import override

from mageflow.backends.base import Delivery, Execution, Host
from mageflow.errors import NonRetryableError
from mageflow.flow.ids import PREFIX

KEY_LABEL = "mageflow"
DISPATCH_LABEL = "mageflow_dispatch"
RETRIES_LABEL = "_retries"
RETRY_LABEL = "retry_on_error"
REQUEUE_LABEL = "X-Taskiq-requeue"
"""Labels of a message; the last three are TaskIQ's own."""
_SPARE_LABEL = "mageflow_spare"
"""What was taken out of a message, should somebody send it on before it is put back."""
_DOOR = "mageflow_door"
_CLOSED = "cannot schedule new futures after"
"""How Python's executors begin to say that they were shut down."""
_ORIGINAL = "__taskiq_original"
"""What TaskIQ adds to the name of a function, to find it in another process."""


def attempts_of(message: TaskiqMessage) -> int:
    """Return how many attempts went before: retries, and how often it was put back."""
    return int(message.labels.get(RETRIES_LABEL, 0)) + int(message.labels.get(REQUEUE_LABEL, 0))


class _Received:
    """A delivery on its way from `Door` to `Recorder`; of a flow of ours if it has a `key`."""

    __slots__ = (
        *(
            "args",
            "attempt",
            "before",
            "entered",
            "error",
            "execution",
            "key",
            "kwargs",
            "leave",
            "message",
            "recorded",
        ),
    )

    def __init__(self, message: TaskiqMessage, key: str | None, before: _Received | None) -> None:
        self.message = message
        self.key = key
        self.before = before
        self.attempt = attempts_of(message)
        self.execution: Execution | None = None
        self.error: BaseException | None = None
        self.recorded = False
        self.leave: Callable[[], None] | None = None
        self.entered = False
        """Whether user code runs: what that calls itself are functions, no deliveries."""
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}

    def take_apart(self) -> None:
        """Take the arguments out: TaskIQ would validate them, which is done by us."""
        message = self.message
        spare = message.labels.get(_SPARE_LABEL)
        if spare is not None:
            message.args, message.kwargs = spare["args"], spare["kwargs"]
        self.args, self.kwargs = message.args, message.kwargs
        message.args, message.kwargs = [], {}
        message.labels[_SPARE_LABEL] = {"args": self.args, "kwargs": self.kwargs}

    def put_together(self) -> None:
        """Put the arguments back, for all that is done with the message from now on."""
        if self.message.labels.pop(_SPARE_LABEL, None) is not None:
            self.message.args, self.message.kwargs = self.args, self.kwargs

    def admitted(self) -> tuple[Execution, dict[str, Any]]:
        """Return the execution and the message of the flow; leave at once where user code must not run."""
        self.put_together()
        if self.execution is None:
            raise NoResultError
        self.entered = True
        return self.execution, self.args[0] if self.args else self.kwargs

    def found_no_thread(self) -> bool:
        """Whether the worker had closed its threads, as it does when its broker raised: no user code ran."""
        closed = isinstance(self.error, RuntimeError) and str(self.error).startswith(_CLOSED)
        return closed and not self.entered

    async def retried(self, used: int, delay: float) -> None:
        """Record that another attempt follows."""
        if self.execution is not None:
            self.recorded = True
            error = self.error or TimeoutError("the attempt ended without an error of its own")
            await self.execution.retried(used, delay, error)


class Door(TaskiqMiddleware):
    """Asks whether a delivery of a flow may run; stands last.

    Deliveries may be inside each other where a broker runs tasks in place, so they are a stack.
    """

    def __init__(self, namespace: str, is_admitted: Callable[[str], bool]) -> None:
        super().__init__()
        self.host: Host | None = None
        self.closed = False
        """Whether nothing may begin any more; rows stay where they are."""
        self._prefix = f"{PREFIX}{namespace}:"
        self._is_admitted = is_admitted
        self._stack: ContextVar[_Received | None] = ContextVar("mageflow_taskiq_received", default=None)

    @property
    def current(self) -> _Received | None:
        """The delivery of a flow of ours that the current code belongs to."""
        top = self._stack.get()
        return top if top is not None and top.key is not None else None

    def leave(self, message: TaskiqMessage) -> _Received | None:
        """Take the delivery of a message from the stack; return it if it is of a flow of ours."""
        top = self._stack.get()
        while top is not None and top.message is not message:
            top = top.before
        if top is None:
            return None
        self._stack.set(top.before)
        if top.leave is not None:
            top.leave()
        return top if top.key is not None else None

    @override
    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Ask, and take the arguments out of the message."""
        key = message.labels.get(KEY_LABEL)
        if not isinstance(key, str) or not key.startswith(self._prefix):
            key = None
        received = _Received(message, key, self._stack.get())
        self._stack.set(received)
        if self.host is None:
            return message
        if key is None:
            received.leave = self.host.outside(message.task_id)
            return message
        if not self._is_admitted(message.task_name):
            # What TaskIQ is about to call is not ours yet; from the next delivery on it is.
            raise NotAdmittedError(message.task_name)
        received.take_apart()
        if not self.closed:
            received.execution = await self._begin(self.host, message, key.removeprefix(self._prefix))
        return message

    async def _begin(self, host: Host, message: TaskiqMessage, identifier: str) -> Execution | None:
        dispatch = int(message.labels.get(DISPATCH_LABEL, 0))
        answer = await host.begin(
            Delivery(
                id=identifier,
                dispatch=dispatch,
                attempt=attempts_of(message),
                manager_run="" if message.task_id == task_id_of(identifier, dispatch) else message.task_id,
            ),
            message.task_name,
        )
        return None if isinstance(answer, str) else answer

    @override
    async def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        """Note the error before the others see it; a final one ends the attempts of TaskIQ's retry middlewares."""
        received = self.current
        if received is not None and received.message is message:
            received.put_together()
            received.error = exception
            final = received.execution is None or received.execution.final(exception) or received.found_no_thread()
        else:
            final = isinstance(exception, NonRetryableError)
        if final:
            message.labels[RETRY_LABEL] = False


class NotAdmittedError(Exception):
    """A task was registered while its worker ran, and a delivery of a flow came at that moment."""

    def __init__(self, task_name: str) -> None:
        super().__init__(f"task {task_name!r} was registered while the worker ran; its row will be offered again")


class Recorder(TaskiqMiddleware):
    """Records how a delivery of a flow ended; stands first, so that its `post_execute` comes last."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    @override
    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """See the retry of what runs here, and record it before its message leaves."""
        received = self._door.current
        if received is None or received.recorded or message.labels.get(KEY_LABEL) != received.key:
            return message
        if attempts_of(message) <= received.attempt:
            requeues = int(message.labels.get(REQUEUE_LABEL, 0))
            message.labels[RETRIES_LABEL] = str(received.attempt + 1 - requeues)
            message.labels_types = {**(message.labels_types or {}), RETRIES_LABEL: LabelType.INT.value}
        await received.retried(attempts_of(message), float(message.labels.get("delay", 0)))
        return message

    @override
    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Record the outcome; the flow keeps the result, so TaskIQ does not write it again."""
        received = self._door.leave(message)
        if received is None:
            return
        if received.execution is not None and not received.recorded:
            await self._record(received, received.execution, result)
        result.error = NoResultError()

    async def _record(self, received: _Received, execution: Execution, result: TaskiqResult[Any]) -> None:
        message, error = received.message, received.error
        moved = attempts_of(message) > received.attempt
        used = attempts_of(message) if moved else received.attempt + 1
        source = self._schedules_retries() if moved else None
        if isinstance(error, NoResultError):
            if moved:  # put back by `Context.requeue()`
                await received.retried(used, 0.0)
            else:
                await execution.released()
        elif error is not None and (source or isinstance(result.error, NoResultError)):
            await received.retried(used, source.make_delay(message, used) if source else 0.0)
        elif received.found_no_thread() or (isinstance(error, asyncio.CancelledError) and _is_canceled()):
            await execution.released()
        else:
            await execution.ended(error)

    def _schedules_retries(self) -> SmartRetryMiddleware | None:
        """Return the middleware that leaves retries to a schedule source: nobody sees their messages leave."""
        for middleware in self.broker.middlewares:
            if isinstance(middleware, SmartRetryMiddleware) and middleware.schedule_source is not None:
                return middleware
        return None


def _is_canceled() -> bool:
    """Whether it was not the task's own code that canceled it, but whoever runs it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def task_id_of(identifier: str, dispatch: int) -> str:
    """Return TaskIQ's id of a run; records keep it only where it is another."""
    return f"{identifier}-{dispatch}"


class _Blocking:
    """A plain function as workers call it: outside of a flow, and in another process, the function itself."""

    __wrapped__: Callable[..., Any]

    def __init__(self, function: Callable[..., Any], door: Door) -> None:
        functools.update_wrapper(self, function)
        # Where TaskIQ reads the annotations of what is no function.
        vars(self).update(__call__=function, __annotations__=getattr(function, "__annotations__", {}))
        self.mageflow_door = door

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        received = self.mageflow_door.current
        if received is None or received.entered:
            return self.__wrapped__(*args, **kwargs)
        execution, payload = received.admitted()
        return execution.call_blocking(payload, kwargs)

    @override
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        function = unwrapped(self)
        return _find, (function.__module__, f"{function.__name__.removesuffix(_ORIGINAL)}{_ORIGINAL}")


def _find(module: str, name: str) -> Callable[..., Any]:
    """Return a function from where TaskIQ puts it for process pools."""
    return getattr(import_module(module), name)


def wrap(function: Callable[..., Any], door: Door) -> Callable[..., Any]:
    """Return a function as workers call it: outside of a flow it is the function itself."""
    if not inspect.iscoroutinefunction(function):
        return _Blocking(function, door)

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        received = door.current
        if received is None or received.entered:
            return await function(*args, **kwargs)
        execution, payload = received.admitted()
        return await execution.call(payload, kwargs)

    setattr(run, _DOOR, door)
    return run


def is_wrapped(function: Callable[..., Any], door: Door) -> bool:
    """Whether deliveries of flows go through this door before the function."""
    while (found := getattr(function, _DOOR, None)) is not None:
        if found is door:
            return True
        function = getattr(function, "__wrapped__")  # noqa: B009 - no attribute to pyright
    return False


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the user's own function."""
    while hasattr(function, _DOOR):
        function = getattr(function, "__wrapped__")  # noqa: B009 - no attribute to pyright
    return function
