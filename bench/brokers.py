"""Flows on each broker of TaskIQ against the same broker without them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from taskiq import AsyncBroker
from taskiq.serializers import JSONSerializer
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from bench.bare import SLOTS, Bare
from bench.flows import Flows
from bench.report import Row, compared
from bench.rounds import alternate
from tests import rabbitmq

STEPS, TASKS = 50, 500
Make = Callable[[str], AsyncBroker]


def makers(url: str, amqp: str | None) -> Iterator[tuple[str, Make]]:
    """Yield what makes a broker with a queue of a name, and TaskIQ's own result store."""

    def with_results(broker: AsyncBroker, name: str) -> AsyncBroker:
        results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
            url, result_ex_time=3600, serializer=JSONSerializer(), prefix_str=name, socket_timeout=None
        )
        return broker.with_result_backend(results)

    def stream(name: str) -> AsyncBroker:
        broker = RedisStreamBroker(
            url, queue_name=name, consumer_group_name=name, unacknowledged_lock_timeout=30.0, socket_timeout=None
        )
        return with_results(broker, name)

    def queue(name: str) -> AsyncBroker:
        return with_results(ListQueueBroker(url, queue_name=name, socket_timeout=None), name)

    def amqp_queue(name: str) -> AsyncBroker:
        broker = AioPikaBroker(
            amqp,
            qos=SLOTS,
            exchange=Exchange(name=name),
            task_queues=[Queue(name=name, type=QueueType.CLASSIC)],
            dead_letter_queue=Queue(name=f"{name}-dead", type=QueueType.CLASSIC),
        )
        return with_results(broker, name)

    yield "stream", stream
    yield "list", queue
    if amqp is not None:
        yield "RabbitMQ", amqp_queue


async def against_bare(what: str, url: str, make: Make, rounds: int) -> list[Row]:
    """Return the rows of one broker."""
    flows = Flows(url, broker=make(f"flows-{what}"), namespace=f"bench-{what}")
    bare = Bare(make(f"bare-{what}"))
    async with flows.worker(), bare.worker():
        swarm, at_once = await alternate(rounds, lambda: flows.swarm(TASKS), lambda: bare.swarm(TASKS))
        chain, by_hand = await alternate(rounds, lambda: flows.chain(STEPS), lambda: bare.chain(STEPS))
    return [
        compared(
            f"{what} of a team: swarm of {TASKS}, against all at once",
            [run for _, run in swarm],
            at_once,
            per=TASKS,
            budget=1.2,
        ),
        compared(f"{what} of a team: chain step", chain, by_hand, per=STEPS, budget=1.0),
    ]


async def measure(url: str, rounds: int) -> list[Row]:
    """Return the rows of every broker that there is."""
    with contextlib.ExitStack() as stack:
        amqp = stack.enter_context(rabbitmq.running()).url if rabbitmq.is_installed() else None
        return [row for what, make in makers(url, amqp) for row in await against_bare(what, url, make, rounds)]
