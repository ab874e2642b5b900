"""Which backend a client gets, from what it was given."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker

from mageflow import AcceptParams, Mageflow, MageflowConfig
from mageflow.backends import resolve
from mageflow.backends.embedded import EmbeddedBackend
from mageflow.errors import UnknownManagerError


class OwnBroker(ListQueueBroker):
    """A broker of a team's own."""


class Queue:
    """A task manager that nobody knows."""

    name = "theirs"


class QueueBackend(EmbeddedBackend):
    """Stands for a backend of another package."""

    def __init__(self, manager: Queue, namespace: str) -> None:
        super().__init__(manager.name, namespace)


def test_broker_of_any_class_is_served(namespace: str) -> None:
    """A subclass of a broker is known by its base; the client has the broker's attributes."""
    broker = OwnBroker("redis://localhost", queue_name="theirs")
    client = Mageflow(broker, "redis://localhost", config=MageflowConfig(namespace=namespace))
    assert client.queue_name == "theirs"
    assert client.state is broker.state


def test_arguments_by_position_and_by_name(namespace: str) -> None:
    """Broker, Redis, parameters and settings are accepted in this order; `client` is another name of the first."""
    config = MageflowConfig(namespace=namespace)
    client = Mageflow(InMemoryBroker(), "redis://localhost", AcceptParams.ALL, config)
    assert (client.config.param_config, client.config.namespace) == (AcceptParams.ALL, namespace)
    assert Mageflow(client=InMemoryBroker(), config=config).await_inplace is False
    with pytest.raises(TypeError, match="one task manager"):
        Mageflow(InMemoryBroker(), client=InMemoryBroker(), config=config)


@pytest.mark.parametrize("given", ["redis://localhost", 3, Queue()])
def test_other_things_are_refused_by_name(given: object) -> None:
    """What is no client of a known task manager is refused with its type, what is known, and where Redis goes."""
    with pytest.raises(
        UnknownManagerError, match=rf"{type(given).__name__} is no client.*taskiq\.AsyncBroker.*redis_client"
    ):
        Mageflow(given)


def test_backend_of_another_package(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    """An entry point named after a package and class serves clients of that class, and of classes below it."""
    here = __name__.partition(".")[0]
    entry = EntryPoint(f"{here}.Queue", f"{__name__}:QueueBackend", resolve.ENTRY_POINTS)
    loaded: list[str] = []

    def load(self: EntryPoint) -> Any:
        loaded.append(self.name)
        return QueueBackend

    monkeypatch.setattr(EntryPoint, "load", load)
    monkeypatch.setattr(resolve, "entry_points", EntryPoints([entry]).select)
    client = Mageflow(type("Special", (Queue,), {})(), config=MageflowConfig(namespace=namespace))
    assert client.queue_name == "theirs"
    assert loaded == [f"{here}.Queue"]


def test_only_the_backend_that_fits_is_loaded() -> None:
    """A client around a broker loads neither the embedded default nor Hatchet."""
    code = (
        "import sys, taskiq; from mageflow import Mageflow; Mageflow(taskiq.InMemoryBroker());"
        "print([n for n in ('mageflow.backends.embedded', 'hatchet_sdk', 'taskiq_redis') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == "[]"
