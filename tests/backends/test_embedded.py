"""The embedded default: what a worker hands to itself, and what it shares with others."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq.message import BrokerMessage

from mageflow import Mageflow, MageflowConfig
from mageflow.backends.embedded import FlowStreamBroker, make_broker
from mageflow.backends.taskiq_delivery import KEY_LABEL
from mageflow.store.keys import Keys
from tests.eventually import eventually

_STEPS = 20


@pytest.fixture
def flows(redis_url: str, namespace: str) -> Mageflow:
    """A client of the embedded default, with a task."""
    client = Mageflow(None, redis_url, config=MageflowConfig(namespace=namespace))
    client.task(name="step")(_step)
    return client


@pytest.fixture
def stream(namespace: str) -> str:
    """Where the messages of that task wait."""
    return f"{Keys(namespace).queue}:step"


async def _step(mageflow_results: int = 0) -> int:
    return mageflow_results + 1


async def _sent(redis: Redis, stream: str) -> int:
    """Return how many messages ever were in a stream."""
    return (await redis.xinfo_stream(stream))["entries-added"] if await redis.exists(stream) else 0


async def _listening(redis: Redis) -> bool:
    """Whether a receiver waits for messages."""
    return any(client["cmd"] == "xreadgroup" for client in await redis.client_list())


async def test_idle_worker_goes_on_itself(flows: Mageflow, redis: Redis, stream: str) -> None:
    """Where nothing else waits, what follows a task is handed to the worker that ended it, past the stream."""
    async with flows.worker():
        await eventually(lambda: _listening(redis), "the worker waits")
        assert await (await flows.achain(["step"] * _STEPS)).aio_run(timeout=10) == _STEPS
        assert await _sent(redis, stream) < _STEPS / 2


async def test_fan_out_is_for_all_workers(flows: Mageflow, redis: Redis, stream: str) -> None:
    """What becomes ready together is in the stream, where every worker takes from."""
    async with flows.worker():
        await eventually(lambda: _listening(redis), "the worker waits")
        swarm = await flows.aswarm(["step"] * _STEPS, is_swarm_closed=True)
        assert len(await swarm.aio_run(timeout=10)) == _STEPS
        assert await _sent(redis, stream) >= _STEPS - 2


async def test_plain_calls_go_through_the_stream(flows: Mageflow, redis: Redis, stream: str) -> None:
    """What belongs to no flow has no row that stands for it: it is never kept in a process."""
    async with flows.worker():
        await eventually(lambda: _listening(redis), "the worker waits")
        task = flows.find_task("step")
        await (await task.kiq()).wait_result(timeout=10)
        assert await _sent(redis, stream) == 1


@pytest.fixture
def receiving(redis_url: str, namespace: str) -> FlowStreamBroker:
    """A broker of the default with a task, to be listened to by hand."""
    broker = make_broker(Keys(namespace).queue)
    broker.connection_pool = BlockingConnectionPool.from_url(redis_url)
    broker.register_task(_step, task_name="step")
    return broker


async def test_what_a_leaving_worker_was_handed_is_sent(receiving: FlowStreamBroker, redis: Redis, stream: str) -> None:
    """A message that a receiver was handed while it left is in the stream."""
    messages = receiving.listen()
    waiting = asyncio.create_task(anext(messages))
    await eventually(lambda: _listening(redis), "the receiver waits")
    await receiving.kick(BrokerMessage(task_id="1", task_name="step", message=b"{}", labels={KEY_LABEL: "mf:a:b"}))
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert await _sent(redis, stream) == 1
    await messages.aclose()
    await receiving.shutdown()
