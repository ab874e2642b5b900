"""Flows on each broker of TaskIQ against the same broker without them: `python -m bench.brokers`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskiq import AsyncBroker
from taskiq.serializers import JSONSerializer
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from bench.__main__ import alternate
from bench.bare import SLOTS, Bare
from bench.flows import Flows
from bench.report import compared
from mageflow.backends.server import EmbeddedServer
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


async def measure(what: str, url: str, make: Make, rounds: int) -> None:
    """Print the rows of one broker."""
    flows = Flows(url, broker=make(f"flows-{what}"), namespace=f"bench-{what}")
    bare = Bare(make(f"bare-{what}"))
    async with flows.worker(), bare.worker():
        swarm, at_once = await alternate(rounds, lambda: flows.swarm(TASKS), lambda: bare.swarm(TASKS))
        chain, by_hand = await alternate(rounds, lambda: flows.chain(STEPS), lambda: bare.chain(STEPS))
    for row in (
        compared(f"{what}: swarm of {TASKS}", [run for _, run in swarm], at_once, per=TASKS, budget=1.2),
        compared(f"{what}: chain step", chain, by_hand, per=STEPS, budget=1.0),
    ):
        print(row.line(), flush=True)


async def main(rounds: int) -> None:
    """Measure every broker that there is."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        amqp = stack.enter_context(rabbitmq.running()).url if rabbitmq.is_installed() else None
        server = await EmbeddedServer.acquire(Path(directory, "data"))
        try:
            for what, make in makers(server.url, amqp):
                await measure(what, server.url, make, rounds)
        finally:
            await server.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    asyncio.run(main(parser.parse_args().rounds))
