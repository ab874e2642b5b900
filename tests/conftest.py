"""Fixtures that every suite shares: one embedded server for the session, a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mageflow import Mageflow, MageflowConfig
from mageflow.backends.server import EmbeddedServer
from mageflow.flow.ids import new_id
from tests import nats, rabbitmq
from tests.leaks import Namespace, remove


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of an embedded server that lives as long as the session."""
    directory = Path(tempfile.mkdtemp(prefix="mageflow-test-"))
    server = asyncio.run(EmbeddedServer.acquire(directory))
    yield server.url
    asyncio.run(server.release())
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[rabbitmq.RabbitMQ]:
    """A RabbitMQ that lives as long as the session."""
    _require("rabbitmq-server", installed=rabbitmq.is_installed())
    with rabbitmq.running() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[nats.Nats]:
    """A NATS that lives as long as the session."""
    _require("nats-server", installed=nats.is_installed())
    with nats.running() as server:
        yield server


def _require(server: str, *, installed: bool) -> None:
    if installed:
        return
    missing = f"{server} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t{new_id()}"


MakeClient = Callable[..., Mageflow]


@pytest.fixture
def make_client(redis_url: str, namespace: str) -> MakeClient:
    """A function that makes clients of the test's namespace; keywords go to `MageflowConfig`."""

    def make(**settings: object) -> Mageflow:
        config = MageflowConfig.model_validate({"namespace": namespace, **settings})
        return Mageflow(redis_client=redis_url, config=config)

    return make


@pytest.fixture
def second_namespace(namespace: str) -> str:
    """Another namespace of the test, looked after like the first."""
    return f"{namespace}-2"


@pytest.fixture(autouse=True)
def no_key_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a key which would stay for ever; the rest is deleted."""
    if "redis_url" not in request.fixturenames:
        yield
        return
    url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("namespace")
    yield
    with redis.Redis.from_url(url) as client:
        stale = [line for name in (namespace, f"{namespace}-2") for line in Namespace(client, name).stale()]
        remove(client, f"{{mf:{namespace}*")
    assert not stale, "keys that would stay for ever:\n" + "\n".join(stale)


@pytest.fixture(autouse=True)
def no_lease_is_kept() -> Iterator[None]:
    """Fail a test after which a thread of a worker that it started goes on keeping a lease."""
    before = set(threading.enumerate())
    yield
    kept = [thread for thread in threading.enumerate() if thread.name == "mageflow-beat" and thread not in before]
    assert not kept, "a worker's lease is kept after its test"
