"""Which backend serves a client: loaded when it is needed, from a fixed table or an entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from mageflow.backends.base import Backend
from mageflow.errors import UnknownManagerError

ENTRY_POINTS = "mageflow.backends"
"""Group of entry points: `package.Class = "module:BackendClass"` serves clients of that class of that package."""
_EMBEDDED = "mageflow.backends.embedded:EmbeddedBackend"
_TABLE = {
    "taskiq.AsyncBroker": "mageflow.backends.taskiq:TaskiqBackend",
    "taskiq.InMemoryBroker": "mageflow.backends.taskiq_memory:InMemoryBackend",
    "taskiq_nats.PullBasedJetStreamBroker": "mageflow.backends.taskiq_nats:PullBackend",
    "taskiq_redis.ListQueueBroker": "mageflow.backends.taskiq_redis:ListBackend",
    "taskiq_redis.PubSubBroker": "mageflow.backends.taskiq_redis:PubSubBackend",
    "taskiq_redis.RedisStreamBroker": "mageflow.backends.taskiq_redis:StreamBackend",
    "hatchet_sdk.Hatchet": "mageflow.backends.hatchet:HatchetBackend",
}


def make_backend(manager: object | None, *, namespace: str, queue: str) -> Backend:
    """Return the backend for a task manager's client; for nothing the embedded one, on this queue; a backend is taken.

    Only the module of the backend that fits is imported.

    Raises:
        UnknownManagerError: no backend knows a class that it derives from.
    """
    if manager is None:
        return _load(_EMBEDDED)(queue, namespace)
    if isinstance(manager, Backend):
        return manager
    for base in type(manager).__mro__:
        place = _TABLE.get(_name_of(base))
        if place is not None:
            return _load(place)(manager, namespace)
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    for base in type(manager).__mro__:
        entry = installed.get(_name_of(base))
        if entry is not None:
            return entry.load()(manager, namespace)
    raise UnknownManagerError(manager, [*_TABLE, *installed])


def _name_of(base: type) -> str:
    """Return the package and name of a class."""
    return f"{base.__module__.partition('.')[0]}.{base.__qualname__}"


def _load(place: str) -> Callable[[object, str], Backend]:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
