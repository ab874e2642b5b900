"""TaskIQ: flows on a broker of the user's own, which stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskiq import AsyncBroker, Context, TaskiqDepends, TaskiqEvents, TaskiqMessage, TaskiqMiddleware
from taskiq.acks import AcknowledgeType
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage
from taskiq.middlewares import SimpleRetryMiddleware, SmartRetryMiddleware
from taskiq.receiver import Receiver
from taskiq.state import TaskiqState
from taskiq.utils import maybe_awaitable
from taskiq_dependencies import DependencyGraph
from typing_extensions import override

from mageflow.backends.base import (
    ACCEPTED,
    Backend,
    Capabilities,
    FoundTask,
    Host,
    Submission,
    TaskOptions,
    Verdict,
)
from mageflow.backends.taskiq_delivery import (
    DISPATCH_LABEL,
    KEY_LABEL,
    RETRIES_LABEL,
    RETRY_LABEL,
    Door,
    Recorder,
    is_wrapped,
    task_id_of,
    unwrapped,
    wrap,
)
from mageflow.config import AcceptParams
from mageflow.flow.command import Dispatch
from mageflow.flow.ids import key_of
from mageflow.flow.task import TaskDefinition

logger = logging.getLogger("mageflow.taskiq")

_PAUSE = 0.2
_LOCAL_LABELS = ("types_of_exceptions", "schedule")
"""Labels that TaskIQ reads from the task object, never from a message."""
_DEFAULT_MAX_RETRIES = 3
_Task = AsyncTaskiqDecoratedTask[Any, Any]


class TaskiqBackend(Backend):
    """Flows on any TaskIQ broker.

    User objects are left alone: in the broker's registry, where workers look, each task is replaced by a copy that asks
    before it runs a delivery of a flow.
    """

    capabilities = Capabilities(bulk=100, start_timeout=60.0, redelivers=True)

    def __init__(self, broker: AsyncBroker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._retries = False
        self._started_on: asyncio.AbstractEventLoop | None = None
        self.ours = False
        self._calling = False
        self._lent = False
        self._working = False
        self._finish: asyncio.Event | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._listening: asyncio.Task[None] | None = None
        self.door = Door(namespace, self._is_admitted)
        self._recorder = Recorder(self.door)
        for middleware in (self.door, self._recorder):
            middleware.set_broker(broker)
        broker.middlewares.insert(0, self._recorder)
        broker.middlewares.append(self.door)
        broker.add_event_handler(TaskiqEvents.CLIENT_STARTUP, self._on_client_startup)
        broker.add_event_handler(TaskiqEvents.CLIENT_SHUTDOWN, self._on_client_shutdown)
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self.on_worker_startup)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._on_worker_shutdown)

    @property
    @override
    def manager(self) -> AsyncBroker:
        return self._broker

    @override
    def filled_parameters(self, task: TaskOptions) -> tuple[str, ...]:
        return _dependencies(_registrable(task))

    @override
    def register(self, task: TaskOptions) -> tuple[Any, TaskDefinition]:
        labels = dict(task.options)
        if task.retries:
            labels |= {RETRY_LABEL: True, "max_retries": task.retries + 1}
            self._retries = True
            if self._started_on is not None:
                self._add_retries()
        if task.execution_timeout is not None:
            labels["timeout"] = float(task.execution_timeout)
        name = task.name or task.function.__name__
        decorated = self._broker.register_task(_registrable(task), task_name=name, **labels)
        self._admit(decorated)
        return decorated, _definition(decorated)

    @override
    def found(self) -> Sequence[FoundTask]:
        new = [task for task in self._broker.get_all_tasks().values() if not is_wrapped(task.original_func, self.door)]
        return [self._admit(task) for task in new]

    def _admit(self, task: _Task) -> FoundTask:
        """Put a copy that knows of flows where workers look for the task."""
        admitted = copy.copy(task)
        admitted.original_func = wrap(task.original_func, self.door)
        self._broker.local_task_registry[task.task_name] = admitted
        function = unwrapped(task.original_func)
        return FoundTask(task=task, function=function, definition=_definition(task), filled=_dependencies(function))

    def _is_admitted(self, name: str) -> bool:
        task = self._broker.find_task(name)
        if task is not None and is_wrapped(task.original_func, self.door):
            return True
        self.found()
        return False

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        messages: list[TaskiqMessage] = []
        answers: list[Submission] = []
        for dispatch in batch:
            try:
                messages.append(await self._message_of(dispatch))
                answers.append(ACCEPTED)
            except Exception as error:  # noqa: BLE001 - a user's middleware may raise anything: this one is refused
                answers.append(Submission(verdict=Verdict.REFUSED, reason=repr(error)))
        sent = iter(await self._send(messages))
        return [next(sent) if answer is ACCEPTED else answer for answer in answers]

    async def _message_of(self, dispatch: Dispatch) -> TaskiqMessage:
        """Return the message of a dispatch, every `pre_send` of the broker run."""
        labels: dict[str, Any] = {
            **dispatch.task.labels,
            **dispatch.options,
            KEY_LABEL: key_of(self._namespace, dispatch.id),
            DISPATCH_LABEL: dispatch.dispatch,
        }
        if dispatch.attempt:
            labels[RETRIES_LABEL] = dispatch.attempt
        prepared = {name: prepare_label(value) for name, value in labels.items()}
        payload = dict(dispatch.message)
        message = TaskiqMessage(
            task_id=task_id_of(dispatch.id, dispatch.dispatch),
            task_name=dispatch.task.name,
            labels={name: value for name, (value, _) in prepared.items()},
            labels_types={name: kind for name, (_, kind) in prepared.items()},
            args=[payload] if dispatch.task.whole else [],
            kwargs={} if dispatch.task.whole else payload,
        )
        for middleware in self._broker.middlewares:
            if type(middleware).pre_send is not TaskiqMiddleware.pre_send and middleware is not self._recorder:
                message = await maybe_awaitable(middleware.pre_send(message))
        return message

    async def _send(self, messages: Sequence[TaskiqMessage]) -> Sequence[Submission]:
        """Send messages, every `post_send` run for what was sent."""
        dumps = self._broker.formatter.dumps
        answers = await self.kick([dumps(message) for message in messages])
        for message, answer in zip(messages, answers, strict=True):
            if answer is ACCEPTED:
                await self._sent(message)
        return answers

    async def _sent(self, message: TaskiqMessage) -> None:
        for middleware in reversed(self._broker.middlewares):
            if type(middleware).post_send is not TaskiqMiddleware.post_send:
                try:
                    await maybe_awaitable(middleware.post_send(message))
                except Exception:
                    logger.exception("post_send of %s failed, its message is sent", type(middleware).__name__)

    async def kick(self, messages: Sequence[BrokerMessage]) -> Sequence[Submission]:
        """Hand messages to the broker, side by side."""
        return await asyncio.gather(*(self.kick_one(message) for message in messages))

    async def kick_one(self, message: BrokerMessage) -> Submission:
        """Hand one message to the broker."""
        try:
            await self._broker.kick(message)
        except Exception as error:  # noqa: BLE001 - transport errors have no common type among brokers
            return Submission(verdict=Verdict.RETRY, reason=repr(error))
        return ACCEPTED

    @override
    def attach(self, host: Host) -> None:
        self.door.host = host

    @override
    async def open(self, *, serve: int = 0) -> None:
        await self.start_broker(working=serve > 0)
        if serve and self._listening is None:
            self._finish = asyncio.Event()
            listening = self._listen(self._receiver(serve), self._finish)
            self._listening = asyncio.create_task(listening, name="mageflow-receiver")

    async def start_broker(self, *, working: bool) -> None:
        """Start the broker, as a worker or not; one that its owner started is left as it is, or lent for the work."""
        if self._started_on is asyncio.get_running_loop():
            if not working or self._broker.is_worker_process:
                return
            self._lent = not self.ours
            await self._call(self._broker.shutdown)
        self.ours = True
        if working and not self._broker.is_worker_process:
            self._broker.is_worker_process = self._working = True
        try:
            await self._call(self._broker.startup)
        except BaseException:
            with contextlib.suppress(Exception):  # what is half open is closed, what went wrong first is told
                await self._stop()
            raise

    async def _stop(self) -> None:
        """Stop the broker if we started it; one that was lent goes back as it was."""
        if not self.ours:
            return
        lent, self._lent = self._lent, False
        try:
            await self._call(self._broker.shutdown)
        finally:
            self.ours = False
            if self._working:
                self._broker.is_worker_process = self._working = False
        if lent:
            await self._broker.startup()

    async def _call(self, method: Callable[[], Awaitable[None]]) -> None:
        """Start or stop the broker ourselves: its events are none of its owner's then."""
        self._calling = True
        try:
            await method()
        finally:
            self._calling = False

    def _receiver(self, slots: int) -> Receiver:
        """Return a receiver with threads of its own.

        Raises:
            ValueError: a task has dependencies that cannot be resolved.
        """
        threads = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="mageflow-task")
        receiver = Receiver(
            self._broker,
            executor=threads,
            max_async_tasks=slots,
            run_startup=False,
            ack_type=AcknowledgeType.WHEN_SAVED,
        )
        self._threads = threads
        return receiver

    async def _listen(self, receiver: Receiver, finish: asyncio.Event) -> None:
        """Take deliveries until told to finish, over the failures of the connection."""
        while not finish.is_set():
            try:
                await receiver.listen(finish)
            except Exception as error:  # noqa: BLE001 - whatever ended it: the worker goes on, rows are offered again
                logger.warning("the worker could not take deliveries, trying again: %s", error)
                await asyncio.sleep(_PAUSE)

    async def stop_listening(self) -> None:
        """Take no more deliveries and wait for the running ones."""
        if self._listening is not None and self._finish is not None:
            self._finish.set()
            await _ended(self._listening)
            self._finish = self._listening = None
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    @override
    async def close(self) -> None:
        await self.stop_listening()
        await self._stop()

    def _on_startup(self) -> None:
        """Take the outermost places among the middlewares that there are by now."""
        self._started_on = asyncio.get_running_loop()
        self.ours = self.ours and self._calling
        self._add_retries()
        middlewares = self._broker.middlewares
        for middleware in (self._recorder, self.door):
            middlewares.remove(middleware)
        middlewares.insert(0, self._recorder)
        middlewares.append(self.door)

    def _add_retries(self) -> None:
        """Give the broker TaskIQ's own retries where a task asks for them and its owner chose none."""
        middlewares = self._broker.middlewares
        if self._retries and not any(isinstance(m, (SimpleRetryMiddleware, SmartRetryMiddleware)) for m in middlewares):
            retries = SimpleRetryMiddleware()
            retries.set_broker(self._broker)
            middlewares.insert(middlewares.index(self.door), retries)

    def _on_client_startup(self, _: TaskiqState) -> None:
        self._on_startup()

    async def on_worker_startup(self, state: TaskiqState) -> None:  # noqa: ARG002 - what TaskIQ hands to handlers
        """A worker starts, by TaskIQ's command or by us."""
        self._on_startup()
        self.check_worker()
        if not self._calling and self.door.host is not None:
            await self.door.host.worker_started()

    def check_worker(self) -> None:
        """Warn of settings with which a worker of this broker will not last."""

    def _on_client_shutdown(self, _: TaskiqState) -> None:
        self._started_on = None

    async def _on_worker_shutdown(self, _: TaskiqState) -> None:
        if not self._calling and self.door.host is not None:
            await self.door.host.worker_stopped()
        self._started_on = None


async def _ended(listening: asyncio.Task[None]) -> None:
    """Wait for the end of a receiver; it waits for its pending read, which redis-py may keep from being canceled."""
    while not (await asyncio.wait({listening}, timeout=_PAUSE))[0]:
        for task in asyncio.all_tasks():
            if task.cancelling() and type(task.get_coro()).__name__ == "async_generator_asend":
                task.cancel()


def _definition(task: _Task) -> TaskDefinition:
    """Return how other processes know a task: they send its labels along."""
    labels: dict[str, Any] = {}
    for name, value in task.labels.items():
        if name not in _LOCAL_LABELS and not isinstance(value, bytes):
            labels[name] = value if isinstance(value, (str, int, float, bool)) else str(value)
    retries = int(labels.get("max_retries", _DEFAULT_MAX_RETRIES)) - 1 if labels.get(RETRY_LABEL) is True else 0
    timeout = labels.get("timeout")
    return TaskDefinition(
        name=task.task_name,
        retries=max(retries, 0),
        execution_timeout=None if timeout is None else float(timeout),
        labels=labels,
    )


def _dependencies(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the parameters that TaskIQ's dependency injection fills."""
    graph = DependencyGraph(function)
    own = [found for root, found in graph.dependencies.items() if root.dependency is function]
    return tuple(dependency.param_name for found in own for dependency in found)


def _registrable(task: TaskOptions) -> Callable[..., Any]:
    """Return a function that TaskIQ may rename in place of the user's, which may be a method.

    TaskIQ's context is the dependency of the second parameter, where the task takes one.
    """
    function = task.function

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    @functools.wraps(function)
    def call_blocking(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    wrapped = call_async if inspect.iscoroutinefunction(function) else call_blocking
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = task.param_config in {AcceptParams.CTX_ONLY, AcceptParams.ALL}
    if takes_context and len(parameters) > 1 and parameters[1].default is inspect.Parameter.empty:
        context = parameters[1].replace(default=TaskiqDepends(Context), kind=inspect.Parameter.KEYWORD_ONLY)
        rest = [
            parameter if parameter.kind is inspect.Parameter.VAR_KEYWORD else parameter.replace(kind=context.kind)
            for parameter in parameters[2:]
        ]
        signature = inspect.Signature([parameters[0], context, *rest])
        setattr(wrapped, "__signature__", signature)  # noqa: B010 - what inspect.signature reads, no attribute to pyright
    return wrapped
