"""A team's broker, and a client around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from taskiq import (
    AsyncBroker,
)
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from mageflow import Mageflow, MageflowConfig
from mageflow.store.keys import Keys


@pytest.fixture
def broker(redis_url: str, namespace: str) -> RedisStreamBroker:
    """A stream broker of a team."""
    queue = f"{Keys(namespace).queue}:team"
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(redis_url, result_ex_time=60, prefix_str=queue)
    return RedisStreamBroker(redis_url, queue_name=queue, consumer_group_name=queue).with_result_backend(results)


@pytest.fixture
def client(broker: AsyncBroker, redis_url: str, namespace: str) -> Mageflow:
    """A client around the broker."""
    return Mageflow(broker, redis_url, config=MageflowConfig(namespace=namespace))


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection of the test's own."""
    async with Redis.from_url(redis_url) as connection:
        yield connection
