"""A client under the name that the texts give it, alone in its process, and a desk of tasks that keep what they got."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mageflow import Mageflow, MageflowConfig, registry
from tests.compat.support import Desk
from tests.hatchet.conftest import engine_address, hatchet_environment
from tests.hatchet.subjects import make_client, serve

__all__ = ["engine_address", "hatchet_environment"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of other tests are not there: module functions find the one of this test."""
    monkeypatch.setattr(registry, "_clients", weakref.WeakSet[Mageflow]())
    monkeypatch.setattr(registry, "_declared", {})


@pytest.fixture(params=["embedded", pytest.param("hatchet", marks=[pytest.mark.servers, pytest.mark.timeout(300)])])
def manager(request: pytest.FixtureRequest) -> str:
    """The task manager: the texts are about Hatchet, and hold on the embedded one as well."""
    if request.param == "hatchet":
        request.getfixturevalue("hatchet_environment")
    return request.param


@pytest_asyncio.fixture
async def hatchet(alone: None, manager: str, redis_url: str, namespace: str) -> AsyncIterator[Mageflow]:
    """The client that the texts call `hatchet`."""
    config = MageflowConfig(namespace=namespace)
    client = Mageflow(redis_client=redis_url, config=config) if manager == "embedded" else make_client(config)
    yield client
    await client.shutdown()


@pytest.fixture
def desk(manager: str, hatchet: Mageflow) -> Desk:
    """Tasks of that client."""
    return Desk(hatchet, serve) if manager == "hatchet" else Desk(hatchet)
