"""TaskIQ: what is special about each broker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq import (
    AsyncBroker,
    InMemoryBroker,
    TaskiqMessage,
    TaskiqMiddleware,
)
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisStreamBroker
from typing_extensions import override

from mageflow import Mageflow, MageflowConfig, SwarmConfig
from mageflow.store.keys import Keys
from tests.backends.noted import Noted
from tests.eventually import eventually


class Slow(TaskiqMiddleware):
    """Sends nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.offers = 0
        self.goes_on = asyncio.Event()

    @override
    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.offers += 1
        await self.goes_on.wait()
        return message


async def test_many_messages_are_one_pipeline(broker: RedisStreamBroker, client: Mageflow, redis: Redis) -> None:
    """Members that become ready together are sent by one connection, in few round trips, `pre_send` run for each."""
    noted = Noted()
    broker.add_middlewares(noted)

    @broker.task
    async def one(number: int) -> int:
        return number

    await client.startup()
    members = [await client.asign(one, number=number) for number in range(100)]
    swarm = await client.aswarm(members, config=SwarmConfig(max_concurrency=None), is_swarm_closed=True)
    before = (await redis.info("clients"))["connected_clients"]
    await swarm.aio_run_no_wait()
    await eventually(lambda: len(noted.of("sent")) == 100, "all were sent")
    assert (await redis.info("clients"))["connected_clients"] <= before + 1
    assert await redis.xlen(broker.queue_name) == 100
    assert len(noted.of("left")) == 100
    await swarm.cancel()
    await client.shutdown()


async def test_broker_that_takes_its_time(broker: AsyncBroker, client: Mageflow, redis: Redis, namespace: str) -> None:
    """What a broker takes for seconds to accept is handed to it once: no sweeper offers it meanwhile."""
    slow = Slow()
    broker.add_middlewares(slow)

    @broker.task
    async def one() -> int:
        return 1

    async with client.worker():
        signature = await client.asign(one)
        starting = asyncio.create_task(signature.aio_run_no_wait())
        outbox = Keys(namespace).outbox
        await eventually(lambda: slow.offers == 1, "it is handed over")
        first = await redis.zscore(outbox, signature.id)
        assert first is not None

        async def is_late() -> bool:
            return (await redis.zscore(outbox, signature.id) or 0) > first + 3000

        await eventually(is_late, "a sweeper would have offered it")
        slow.goes_on.set()
        assert await (await starting).result(10) == 1
        assert slow.offers == 1


async def test_message_before_the_first_worker_of_a_stream(
    broker: RedisStreamBroker, client: Mageflow, redis: Redis
) -> None:
    """What was sent to a stream that no worker ever read waits there for the first: its group begins before it."""

    @broker.task(queue_name=f"{broker.queue_name}:urgent")
    async def urgent() -> int:
        return 1

    @broker.task
    async def one() -> int:
        return 2

    await client.startup()
    handles = [await (await client.asign(task)).aio_run_no_wait() for task in (urgent, one)]
    await client.shutdown()
    assert await redis.xlen(f"{broker.queue_name}:urgent") == 1
    [group] = await redis.xinfo_groups(f"{broker.queue_name}:urgent")
    assert (group["name"].decode(), group["lag"]) == (broker.consumer_group_name, 1)
    broker.additional_streams[f"{broker.queue_name}:urgent"] = ">"
    async with client.worker():
        assert [await handle.result(10) for handle in handles] == [1, 2]


async def test_worker_that_lacks_the_task(
    broker: AsyncBroker, client: Mageflow, redis_url: str, namespace: str
) -> None:
    """TaskIQ drops what it has no function for; the row brings it to a worker that has it."""

    @broker.task("known")
    async def known(number: int) -> int:
        return number

    queue = broker.queue_name if isinstance(broker, RedisStreamBroker) else ""
    empty = RedisStreamBroker(redis_url, queue_name=queue, consumer_group_name=queue)
    lacking = Mageflow(empty, redis_url, config=MageflowConfig(namespace=namespace))
    await client.startup()
    async with lacking.worker():
        handle = await (await client.asign(known, number=1)).aio_run_no_wait()
        async with Redis.from_url(redis_url) as redis:
            await eventually(lambda: _all_dropped(redis, queue), "the message was taken and dropped")
    async with client.worker():
        assert await handle.result(15) == 1
    await client.shutdown()


async def _all_dropped(redis: Redis, queue: str) -> bool:
    [group] = await redis.xinfo_groups(queue)
    return group["lag"] == 0 and group["pending"] == 0


@pytest.mark.parametrize(("settings", "warns"), [({}, [True]), ({"socket_timeout": None}, [])])
async def test_worker_of_a_list_warns_of_its_end(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], warns: list[bool]
) -> None:
    """With redis-py 8 a worker of the list broker ends when it is idle for 5 s: it says so when it starts."""
    broker = ListQueueBroker(redis_url, queue_name=f"{Keys(namespace).queue}:team", **settings)
    async with Mageflow(broker, redis_url, config=MageflowConfig(namespace=namespace)).worker():
        warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["socket_timeout=None" in text for text in warned] == warns


async def test_publishing_broker_runs_each_task_once(redis_url: str, namespace: str) -> None:
    """Each worker of a `PubSubBroker` hears of each task and one runs it; what none heard comes again by its row."""
    ran: list[int] = []

    def member(queue: str) -> tuple[Mageflow, Any]:
        broker = PubSubBroker(redis_url, queue_name=queue, socket_timeout=None)

        @broker.task("note")
        async def note(number: int) -> int:
            ran.append(number)
            return number

        return Mageflow(broker, redis_url, config=MageflowConfig(namespace=namespace)), note

    (client, note), (other, _) = [member(f"{Keys(namespace).queue}:team") for _ in range(2)]
    await client.startup()
    unheard = await (await client.asign(note, number=-1)).aio_run_no_wait()
    async with client.worker(), other.worker():
        members = [await client.asign(note, number=number) for number in range(20)]
        swarm = await client.aswarm(members, is_swarm_closed=True)
        assert await swarm.aio_run(timeout=15) == list(range(20))
        assert await unheard.result(15) == -1
    assert sorted(ran) == list(range(-1, 20))
    await client.shutdown()
    await asyncio.get_running_loop().shutdown_asyncgens()  # the broker leaves its subscription to the end of the loop


async def test_memory_broker_in_place(redis_url: str, namespace: str) -> None:
    """A long chain on a broker that runs in place ends; its steps do not pile up on the stack."""
    broker = InMemoryBroker(await_inplace=True)
    client = Mageflow(broker, redis_url, config=MageflowConfig(namespace=namespace))

    @broker.task
    async def step(mageflow_results: int = 0) -> int:
        return mageflow_results + 1

    async with client.worker():
        chain = await client.achain([step] * 200)
        assert await chain.aio_run(timeout=20) == 200


async def test_memory_broker_that_its_owner_started(redis_url: str, namespace: str) -> None:
    """From `broker.startup()` on the broker in memory runs flows as it runs anything: no worker is needed."""
    broker = InMemoryBroker()
    client = Mageflow(broker, redis_url, config=MageflowConfig(namespace=namespace))

    @broker.task
    def step(number: int) -> int:
        return number + 1

    await broker.startup()
    assert await (await client.asign(step, number=1)).aio_run(timeout=10) == 2
    assert (await (await step.kiq(3)).wait_result(timeout=5)).return_value == 4
    await client.shutdown()
    await broker.shutdown()
