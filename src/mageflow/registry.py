"""The clients of this process and the tasks declared before them: the one module with state of its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mageflow.config import AcceptParams
from mageflow.errors import AmbiguousClientError, TaskNameError
from mageflow.flow.checks import one_of
from mageflow.flow.ids import PREFIX
from mageflow.run.behaviour import Behaviour, Behaviours
from mageflow.run.context import current_run

if TYPE_CHECKING:
    from mageflow.blocking import Blocking

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTask:
    """A function that was declared as a task before there was a client for it."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]


_clients: weakref.WeakSet[Blocking] = weakref.WeakSet()
_declared: dict[str, DeclaredTask] = {}
_behaviours = Behaviours()


def add_client(client: Blocking) -> None:
    """Make a client known to the module functions."""
    _clients.add(client)


def find_client() -> Blocking:
    """Return the client of the running task, else the only one.

    Raises:
        AmbiguousClientError: there is none, or there are several.
    """
    run = current_run.get()
    if run is not None:
        return cast("Blocking", run.client)
    clients = list(_clients)
    if len(clients) != 1:
        raise AmbiguousClientError(sorted(client.config.namespace for client in clients))
    return clients[0]


def register_task(name: str, **options: Any) -> Callable[[F], F]:
    """Declare a function as a task before there is a client; it stays the function that it is.

    Every client of this process registers it when a worker of it starts; from then on the namespace knows the name.

    Args:
        name: in every namespace.
        options: those of `Mageflow.task`.

    Raises:
        TaskNameError: the name is empty or starts with `mf:`, or another function was declared under it.
    """
    if not isinstance(name, str) or not name or name.startswith(PREFIX):  # pyright: ignore[reportUnnecessaryIsInstance] - users give it
        raise TaskNameError(str(name), f"must be a text, not empty, and not start with {PREFIX!r}")

    def declare(function: F) -> F:
        before = _declared.get(name)
        if before is not None and _place(before.function) != _place(function):
            raise TaskNameError(name, f"{_place(before.function)} was declared under it")
        _declared[name] = DeclaredTask(name=name, function=function, options=options)
        return function

    return declare


def _place(function: Callable[..., Any]) -> str:
    """Return where a function is defined; a module that is loaded again defines the same ones."""
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"


def declared_tasks() -> Sequence[DeclaredTask]:
    """Return what `register_task` declared."""
    return list(_declared.values())


def declared_name(thing: object) -> str | None:
    """Return the name under which a function was declared."""
    return next((task.name for task in _declared.values() if task.function is thing), None)


def handle_task_callback(
    expected_params: AcceptParams = AcceptParams.NO_CTX,
    wrap_res: bool = True,  # noqa: FBT001, FBT002 - users of MageFlow 0.3 give it by position
    send_signature: bool = False,  # noqa: FBT001, FBT002 - likewise
    is_idempotent: bool = True,  # noqa: FBT001, FBT002 - likewise
) -> Callable[[F], F]:
    """Say how a function wants to be called as a task; it stays the function that it is.

    Args:
        expected_params: what it takes, whatever the client's `param_config` says.
        wrap_res: wrap a value that is no mapping for task managers that take mappings alone (Hatchet).
        send_signature: pass its own signature as `signature`, outside a flow `None`.
        is_idempotent: it may run again when its worker was lost; else it fails with `WorkerLostError` then.
    """
    params = one_of(AcceptParams, expected_params, "expected_params")

    def ask(function: F) -> F:
        behaviour = Behaviour(params=params, signature=send_signature, wrap_result=wrap_res, idempotent=is_idempotent)
        _behaviours.ask(function, behaviour)
        return function

    return ask


def behaviour_of(function: object) -> Behaviour:
    """Return what `handle_task_callback` asked for a function."""
    return _behaviours.of(function)
