"""The same work on the bare task manager, written by hand as its users would."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, AsyncTaskiqTask
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

SLOTS = 100
"""Tasks that run at a time, on both sides."""
_POLL = 0.01
"""Seconds between two looks at a result. TaskIQ's default, 0.2, would only make this side slower."""


class Bare:
    """A broker with a receiver in this process: the settings of the embedded backend, and nothing of ours."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._end: asyncio.Future[int] | None = None

        async def step(left: int, value: int) -> None:
            if left:
                await self._step.kiq(left - 1, value + 1)
            elif self._end is not None:
                self._end.set_result(value)

        async def nothing() -> None:
            return

        self._step: AsyncTaskiqDecoratedTask[..., Any] = broker.register_task(step, task_name="step")
        self._nothing: AsyncTaskiqDecoratedTask[..., Any] = broker.register_task(nothing, task_name="nothing")

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncGenerator[Bare]:
        """Run tasks in this process while the context is open."""
        self._broker.is_worker_process = True
        await self._broker.startup()
        finish = asyncio.Event()
        with ThreadPoolExecutor(max_workers=SLOTS) as threads:
            receiver = Receiver(
                self._broker,
                executor=threads,
                max_async_tasks=SLOTS,
                run_startup=False,
                ack_type=AcknowledgeType.WHEN_SAVED,
            )
            listener = asyncio.create_task(receiver.listen(finish))
            try:
                yield self
            finally:
                finish.set()
                await listener
                await self._broker.shutdown()

    async def chain(self, steps: int) -> float:
        """Each task starts the next with its result; the last one wakes us, so nothing is polled."""
        self._end = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        await self._step.kiq(steps - 1, 0)
        assert await self._end == steps - 1
        return time.perf_counter() - started

    async def swarm(self, tasks: int) -> float:
        """Start all at once, then wait for the results in order: the fastest of the ways that we tried."""
        started = time.perf_counter()
        for task in await asyncio.gather(*(self._nothing.kiq() for _ in range(tasks))):
            await _result(task)
        return time.perf_counter() - started

    async def bounded_swarm(self, tasks: int, bound: int) -> float:
        """Start at most `bound` at a time, with a semaphore."""
        slots = asyncio.Semaphore(bound)

        async def one() -> None:
            async with slots:
                await _result(await self._nothing.kiq())

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(tasks)))
        return time.perf_counter() - started

    async def kick(self, tasks: int) -> float:
        """Only start them; what was started is worked off before this returns, untimed."""
        started = time.perf_counter()
        kicked = [await self._nothing.kiq() for _ in range(tasks)]
        seconds = time.perf_counter() - started
        for task in kicked:
            await _result(task)
        return seconds


async def _result(task: AsyncTaskiqTask[Any]) -> None:
    result = await task.wait_result(check_interval=_POLL, timeout=60)
    assert not result.is_err


def stream(url: str) -> RedisStreamBroker:
    """Return the stream broker without results, as the hand-written chain needs none."""
    return RedisStreamBroker(
        url,
        queue_name="bare-stream",
        consumer_group_name="bare-stream",
        consumer_id="0",
        unacknowledged_lock_timeout=30.0,
        socket_timeout=None,
    )


def stream_with_results(url: str) -> AsyncBroker:
    """Return the stream broker with TaskIQ's own result store."""
    broker = stream(url)
    broker.queue_name = broker.consumer_group_name = "bare-results"
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
        url, result_ex_time=3600, serializer=JSONSerializer(), prefix_str="bare-results:result", socket_timeout=None
    )
    return broker.with_result_backend(results)


def list_queue(url: str) -> ListQueueBroker:
    """Return the list broker without results."""
    return ListQueueBroker(url, queue_name="bare-list", socket_timeout=None)
