"""A client under the name that the texts give it, alone in its process, and a desk of tasks that keep what they got."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mageflow import Mageflow, MageflowConfig, registry
from tests.compat.support import Desk


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of other tests are not there: module functions find the one of this test."""
    monkeypatch.setattr(registry, "_clients", weakref.WeakSet[Mageflow]())
    monkeypatch.setattr(registry, "_declared", {})


@pytest_asyncio.fixture
async def hatchet(alone: None, redis_url: str, namespace: str) -> AsyncIterator[Mageflow]:
    """The client that the texts call `hatchet`, on the embedded task manager."""
    client = Mageflow(redis_client=redis_url, config=MageflowConfig(namespace=namespace))
    yield client
    await client.shutdown()


@pytest.fixture
def desk(hatchet: Mageflow) -> Desk:
    """Tasks of that client."""
    return Desk(hatchet)
