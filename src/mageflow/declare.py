"""The decorators of a client: functions become tasks, and say what they want beside their message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from mageflow.backends.base import Backend, TaskOptions
from mageflow.config import AcceptParams, MageflowConfig, span_in_seconds
from mageflow.errors import InvalidArgumentError
from mageflow.flow.checks import check_count, check_seconds, shown
from mageflow.registry import behaviour_of, declared_name, declared_tasks
from mageflow.run.behaviour import Behaviour, Behaviours, outside_flows
from mageflow.run.binding import bind
from mageflow.run.tasks import Tasks

T = TypeVar("T")


class Declarations:
    """Turns functions into tasks of a task manager; what was asked of one before or after may come in any order."""

    config: MageflowConfig

    def __init__(self, config: MageflowConfig, backend: Backend) -> None:
        self.config = config
        self._backend = backend
        self._tasks = Tasks(backend.found, lambda thing: declared_name(thing) or backend.name_of(thing))
        self._behaviours = Behaviours()
        self._declared: dict[str, TaskOptions] = {}

    def task(
        self,
        name: str | Callable[..., Any] | None = None,
        *,
        input_validator: type[Any] | None = None,
        retries: int = 0,
        execution_timeout: timedelta | float | str | None = None,
        **options: Any,
    ) -> Any:
        """Register a function as a task; returns the task object of the task manager.

        Args:
            name: in the namespace; the function's own by default.
            input_validator: model of the message, or a dataclass; the first parameter's annotation by default.
            retries: further attempts after the first.
            execution_timeout: seconds, a timedelta, or a text as `"90s"` and `"1h30m"`.
            options: options of the task manager.

        Raises:
            TaskNameError: the name is empty, taken or starts with `mf:`.
            DefinitionError: it asks for its signature and has no parameter for it.
        """
        task = TaskOptions(
            function=_undecided,
            input_validator=input_validator,
            retries=retries,
            execution_timeout=_seconds(execution_timeout),
            options=options,
        )
        return self._decorator(name, task)

    def durable_task(self, name: str | Callable[..., Any] | None = None, **options: Any) -> Any:
        """Register a function as a durable task of a task manager that has them, else as a task; see `task`."""
        own = {key: options.pop(key) for key in ("input_validator", "retries") if key in options}
        limit = _seconds(options.pop("execution_timeout", None))
        task = TaskOptions(function=_undecided, durable=True, execution_timeout=limit, options=options, **own)
        return self._decorator(name, task)

    def with_ctx(self, task: T) -> T:
        """Pass the task manager's context as second argument, whatever the client's `param_config` says.

        Stands above or below the task decorator and the other decorators of this kind; so do they.
        """
        return self._ask(task, Behaviour(params=AcceptParams.ALL))

    def with_signature(self, task: T) -> T:
        """Pass the task's own signature as `signature`; outside a flow it is `None`. One round trip more for a run.

        With `JUST_MESSAGE` and `CTX_ONLY` nothing is passed.

        Raises:
            DefinitionError: the function has no such parameter.
        """
        return self._ask(task, Behaviour(signature=True))

    def stagger_execution(self, wait_delta: timedelta) -> Callable[[T], T]:
        """Start the task after a random delay, so that tasks that want the same thing do not ask for it at once.

        The delay is logged and does not count against the time limit. A plain function waits in its thread.

        Args:
            wait_delta: the longest delay.
        """
        if not isinstance(wait_delta, timedelta) or wait_delta < timedelta(0):  # pyright: ignore[reportUnnecessaryIsInstance] - users give it
            raise InvalidArgumentError("wait_delta", "a timedelta, 0 or more", shown(wait_delta))

        def decorate(task: T) -> T:
            return self._ask(task, Behaviour(stagger=wait_delta))

        return decorate

    def _decorator(self, name: str | Callable[..., Any] | None, task: TaskOptions) -> Any:
        if name is not None and not isinstance(name, str) and not callable(name):
            raise InvalidArgumentError("the name of a task", "a text", shown(name))
        where = f"of task {name!r}" if isinstance(name, str) else "of a task"
        check_count(task.retries, f"retries {where}")
        check_seconds(task.execution_timeout, f"execution_timeout {where}", positive=True)
        if task.input_validator is not None and not isinstance(task.input_validator, type):
            raise InvalidArgumentError(f"input_validator {where}", "a class", shown(task.input_validator))

        def decorate(function: Callable[..., Any]) -> Any:
            given = name if isinstance(name, str) else function.__name__
            self._tasks.check_name(given)
            return self._register(replace(task, function=function, name=given))

        return decorate(name) if callable(name) else decorate

    def _register(self, task: TaskOptions) -> Any:
        """Register a task, or once more one of which something else is asked now."""
        name = task.name or task.function.__name__
        behaviour = self._behaviours.of(task.function).over(behaviour_of(task.function))
        behaviour = behaviour.resolved(self.config.param_config)
        limit = task.execution_timeout
        shown = replace(
            task,
            function=outside_flows(task.function, behaviour, name),
            execution_timeout=None if limit is None else limit + behaviour.stagger.total_seconds(),
            param_config=behaviour.params or self.config.param_config,
            stagger=behaviour.stagger,
            wrap_result=behaviour.wrap_result,
        )
        binding = bind(
            name,
            task.function,
            task.input_validator,
            skip=self._backend.filled_parameters(shown),
            behaviour=behaviour,
            limit=limit,
        )
        decorated, definition = self._backend.register(shown)
        self._declared[name] = task
        self._tasks.add(binding, definition, decorated, task.function)
        return decorated

    def _ask(self, thing: T, behaviour: Behaviour) -> T:
        """Ask something for a function, or for the task object that it became; returns the one to use from now on."""
        name = self._tasks.name_of(thing)
        if name is None and not hasattr(thing, "__call__"):  # noqa: B004 - `callable` would narrow the type
            raise InvalidArgumentError("what a decorator stands above", "a function or a task object", shown(thing))
        task = self._declared.get(name) if name is not None else None
        self._behaviours.ask(thing if task is None else task.function, behaviour)
        if task is None:
            return thing
        decorated = self._register(task)
        return thing if thing is task.function else decorated

    def adopt_declared(self) -> Sequence[object]:
        """Register what `mageflow.register_task` declared and is not registered yet; returns the new task objects.

        Raises:
            TaskNameError: another function has the name here.
        """
        new = [task for task in declared_tasks() if not self._is_registered(task.name, task.function)]
        return [self.task(task.name, **task.options)(task.function) for task in new]

    def _is_registered(self, name: str, function: Callable[..., Any]) -> bool:
        return name in self._declared and self._declared[name].function is function


def _undecided() -> None:
    """Stand for the function that a decorator does not know yet."""


def _seconds(limit: Any) -> Any:
    """Return a time limit as seconds; what is none as it is, to be refused."""
    seconds = span_in_seconds(limit)
    return limit if seconds is None else seconds
