"""TaskIQ: a middleware on the user's own broker, and wrapped functions.

A message of a flow carries the signature, its dispatch number and the attempts used as labels; whether it runs is asked
in `pre_execute`, its end is recorded in `post_execute`, both before the acknowledgement.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from taskiq import AsyncBroker, Context, TaskiqDepends, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage
from taskiq.middlewares import SimpleRetryMiddleware, SmartRetryMiddleware
from taskiq.utils import maybe_awaitable
from taskiq_dependencies import DependencyGraph
from typing_extensions import override

from mageflow.backends.base import (
    ACCEPTED,
    Backend,
    Capabilities,
    Delivery,
    Execution,
    Host,
    Submission,
    TaskOptions,
    Verdict,
)
from mageflow.config import AcceptParams
from mageflow.flow.command import Dispatch
from mageflow.flow.task import TaskDefinition

SIGNATURE_LABEL = "mageflow"
DISPATCH_LABEL = "mageflow_dispatch"
RETRIES_LABEL = "_retries"
RETRY_LABEL = "retry_on_error"
"""Labels of a message; the last two are TaskIQ's own."""


class _Received:
    """A delivery between `pre_execute` and `post_execute`."""

    __slots__ = ("args", "entered", "error", "execution", "message", "task_id")

    def __init__(self, execution: Execution | None, message: TaskiqMessage) -> None:
        self.execution = execution
        self.task_id = message.task_id
        self.message = message
        self.args = message.args
        self.entered = False
        """Whether user code runs: what that calls itself are functions, no deliveries."""
        self.error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """Keep an error for the record; a final one ends the attempts of TaskIQ's retry middlewares."""
        self.error = error
        if self.execution is None or self.execution.final(error):
            self.message.labels[RETRY_LABEL] = False

    def admitted(self) -> Execution:
        """Return the execution; leave at once where user code must not run."""
        if self.execution is None:
            raise NoResultError
        self.entered = True
        return self.execution


_received: ContextVar[_Received | None] = ContextVar("mageflow_taskiq_received", default=None)


class FlowMiddleware(TaskiqMiddleware):
    """Asks before a delivery of a flow runs and records how it ended.

    It stands first, so TaskIQ calls its `post_execute` last, when the other middlewares have decided about retries.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host: Host | None = None

    @override
    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Ask whether the delivery may run; its arguments are validated by us, not by TaskIQ."""
        _received.set(None)
        signature = message.labels.get(SIGNATURE_LABEL)
        if signature is None or self.host is None:
            return message
        dispatch = int(message.labels.get(DISPATCH_LABEL, 0))
        delivery = Delivery(
            id=str(signature),
            dispatch=dispatch,
            attempt=int(message.labels.get(RETRIES_LABEL, 0)),
            manager_run="" if message.task_id == _task_id(str(signature), dispatch) else message.task_id,
        )
        answer = await self.host.begin(delivery, message.task_name)
        _received.set(_Received(None if isinstance(answer, str) else answer, message))
        message.args = []
        return message

    @override
    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """See the retry of a task that runs here, and record it before its message leaves."""
        received = _received.get()
        if received is None or received.execution is None or message.task_id != received.task_id:
            return message
        message.args = received.args
        used = int(message.labels.get(RETRIES_LABEL, 0))
        error = received.error or TimeoutError("the attempt ended without an error of its own")
        await received.execution.retried(used, float(message.labels.get("delay", 0)), error)
        return message

    @override
    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Record the outcome; the flow keeps the result, so TaskIQ does not write it again."""
        received = _received.get()
        if received is None or message.task_id != received.task_id:
            return
        _received.set(None)
        error = received.error if isinstance(result.error, NoResultError) else result.error
        if received.execution is not None:
            await received.execution.ended(error)
        result.error = NoResultError()


def _with_context(task: TaskOptions) -> Callable[..., Any]:
    """Return the function with TaskIQ's context as the dependency of its second parameter, where it takes one."""
    function = task.function
    parameters = list(inspect.signature(function).parameters.values())
    if task.param_config not in {AcceptParams.CTX_ONLY, AcceptParams.ALL} or len(parameters) < 2:
        return function
    if parameters[1].default is not inspect.Parameter.empty:
        return function

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    @functools.wraps(function)
    def call_blocking(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    context = parameters[1].replace(default=TaskiqDepends(Context), kind=inspect.Parameter.KEYWORD_ONLY)
    rest = [
        parameter if parameter.kind is inspect.Parameter.VAR_KEYWORD else parameter.replace(kind=context.kind)
        for parameter in parameters[2:]
    ]
    wrapped = call_async if inspect.iscoroutinefunction(function) else call_blocking
    signature = inspect.Signature([parameters[0], context, *rest])
    setattr(wrapped, "__signature__", signature)  # noqa: B010 - what inspect.signature reads, no attribute to pyright
    return wrapped


def _wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as TaskIQ registers it: outside a flow it is the function itself."""

    @functools.wraps(function)
    async def run_async(*args: Any, **kwargs: Any) -> Any:
        received = _received.get()
        if received is None or received.entered:
            return await function(*args, **kwargs)
        execution = received.admitted()
        try:
            return await execution.call(received.args[0], kwargs)
        except BaseException as error:
            received.failed(error)
            raise

    @functools.wraps(function)
    def run_blocking(*args: Any, **kwargs: Any) -> Any:
        received = _received.get()
        if received is None or received.entered:
            return function(*args, **kwargs)
        execution = received.admitted()
        try:
            return execution.call_blocking(received.args[0], kwargs)
        except BaseException as error:
            received.failed(error)
            raise

    return run_async if inspect.iscoroutinefunction(function) else run_blocking


def _task_id(signature: str, dispatch: int) -> str:
    """Return TaskIQ's id of a run; records keep it only where it is another."""
    return f"{signature}-{dispatch}"


def _dependencies(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the parameters that TaskIQ's dependency injection fills."""
    graph = DependencyGraph(function)
    own = [found for root, found in graph.dependencies.items() if root.dependency is function]
    return tuple(dependency.param_name for found in own for dependency in found)


class TaskiqBackend(Backend):
    """Flows on any TaskIQ broker."""

    capabilities = Capabilities(bulk=100, start_timeout=60.0)

    def __init__(self, broker: AsyncBroker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._middleware = FlowMiddleware()
        self._middleware.set_broker(broker)
        broker.middlewares.insert(0, self._middleware)

    @property
    @override
    def manager(self) -> AsyncBroker:
        return self._broker

    @override
    def filled_parameters(self, task: TaskOptions) -> tuple[str, ...]:
        return _dependencies(_with_context(task))

    @override
    def attach(self, host: Host) -> None:
        self._middleware.host = host

    @override
    def register(self, task: TaskOptions) -> tuple[Any, TaskDefinition]:
        labels = dict(task.options)
        if task.retries:
            labels |= {RETRY_LABEL: True, "max_retries": task.retries + 1}
            self._add_retry_middleware()
        timeout = task.execution_timeout
        if timeout is not None:
            labels["timeout"] = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
        name = task.name or task.function.__name__
        decorated = self._broker.register_task(_wrap(_with_context(task)), task_name=name, **labels)
        plain = {label: value for label, value in labels.items() if isinstance(value, (str, int, float, bool))}
        definition = TaskDefinition(
            name=name, retries=task.retries, execution_timeout=labels.get("timeout"), labels=plain
        )
        return decorated, definition

    def _add_retry_middleware(self) -> None:
        if not any(
            isinstance(item, (SimpleRetryMiddleware, SmartRetryMiddleware)) for item in self._broker.middlewares
        ):
            self._broker.add_middlewares(SimpleRetryMiddleware())

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        return [await self.submit_one(dispatch) for dispatch in batch]

    async def submit_one(self, dispatch: Dispatch) -> Submission:
        """Hand over one dispatch."""
        try:
            message = await self.message_of(dispatch)
        except Exception as error:  # noqa: BLE001 - a user's middleware may raise anything: this one dispatch is refused
            return Submission(verdict=Verdict.REFUSED, reason=repr(error))
        return await self._kick(message)

    async def _kick(self, message: BrokerMessage) -> Submission:
        try:
            await self._broker.kick(message)
        except Exception as error:  # noqa: BLE001 - transport errors have no common type among brokers
            return Submission(verdict=Verdict.RETRY, reason=repr(error))
        return ACCEPTED

    async def message_of(self, dispatch: Dispatch) -> BrokerMessage:
        """Return the message of a dispatch, every `pre_send` of the broker run."""
        labels: dict[str, Any] = {
            **dispatch.task.labels,
            **dispatch.options,
            SIGNATURE_LABEL: dispatch.id,
            DISPATCH_LABEL: dispatch.dispatch,
        }
        if dispatch.attempt:
            labels[RETRIES_LABEL] = dispatch.attempt
        prepared = {name: prepare_label(value) for name, value in labels.items()}
        message = TaskiqMessage(
            task_id=_task_id(dispatch.id, dispatch.dispatch),
            task_name=dispatch.task.name,
            labels={name: value for name, (value, _) in prepared.items()},
            labels_types={name: kind for name, (_, kind) in prepared.items()},
            args=[dict(dispatch.message)],
            kwargs={},
        )
        for middleware in self._broker.middlewares:
            if type(middleware).pre_send is not TaskiqMiddleware.pre_send:
                message = await maybe_awaitable(middleware.pre_send(message))
        return self._broker.formatter.dumps(message)

    @override
    async def open(self, *, serve: int = 0) -> None:
        self._broker.is_worker_process = serve > 0 or self._broker.is_worker_process
        await self._broker.startup()

    @override
    async def close(self) -> None:
        await self._broker.shutdown()
