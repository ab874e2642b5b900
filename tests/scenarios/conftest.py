"""A stage for each scenario: a client with tasks, with or without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import redis

from mageflow import Mageflow
from tests.conftest import MakeClient
from tests.scenarios.support import Server, Stage


@pytest_asyncio.fixture
async def stage(make_client: MakeClient) -> AsyncIterator[Stage]:
    """A client of the test's namespace with tasks and a worker."""
    stage = Stage(make_client())
    async with stage.client.worker():
        yield stage
        stage.open_all()


@pytest_asyncio.fixture
async def idle(make_client: MakeClient) -> AsyncIterator[Stage]:
    """A client with tasks and no worker: nothing runs."""
    stage = Stage(make_client())
    await stage.client.startup()
    yield stage
    await stage.client.shutdown()


@pytest.fixture
def client(stage: Stage) -> Mageflow:
    """The client of the stage, with a worker."""
    return stage.client


@pytest.fixture
def server(redis_url: str, namespace: str) -> Iterator[Server]:
    """What stands in Redis for the test's namespace."""
    with redis.Redis.from_url(redis_url) as connection:
        yield Server(connection, namespace)
