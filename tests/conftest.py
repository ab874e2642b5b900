"""Fixtures that every suite shares: one embedded server for the session, a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mageflow import Mageflow, MageflowConfig
from mageflow.backends.server import EmbeddedServer
from mageflow.flow.ids import new_id


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of an embedded server that lives as long as the session."""
    directory = Path(tempfile.mkdtemp(prefix="mageflow-test-"))
    server = asyncio.run(EmbeddedServer.acquire(directory))
    yield server.url
    asyncio.run(server.release())
    shutil.rmtree(directory, ignore_errors=True)


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
