"""TaskIQ's broker in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from taskiq import InMemoryBroker
from taskiq.message import BrokerMessage
from taskiq.state import TaskiqState
from typing_extensions import override

from mageflow.backends.base import ACCEPTED, Capabilities, Submission, Verdict
from mageflow.backends.taskiq import TaskiqBackend


class InMemoryBackend(TaskiqBackend):
    """Flows on TaskIQ's broker for tests, which keeps nothing: what is sent runs at once, in this process.

    It takes work while `client.worker()` runs, or from `broker.startup()` to `broker.shutdown()`.
    """

    capabilities = Capabilities(bulk=100, start_timeout=3.0)

    def __init__(self, broker: InMemoryBroker, namespace: str) -> None:
        super().__init__(broker, namespace)
        self._memory = broker
        self._in_place: set[asyncio.Task[Submission]] = set()
        self.door.closed = True

    @override
    async def kick(self, messages: Sequence[BrokerMessage]) -> Sequence[Submission]:
        if self.door.closed:
            reason = "the broker in memory has no worker, `async with client.worker()` is one"
            return [Submission(verdict=Verdict.RETRY, reason=reason)] * len(messages)
        if not self._memory.await_inplace:
            return await super().kick(messages)
        for message in messages:  # in place each step of a flow would run inside of the one before
            task = asyncio.create_task(self.kick_one(message), name="mageflow-in-place")
            self._in_place.add(task)
            task.add_done_callback(self._in_place.discard)
        return [ACCEPTED] * len(messages)

    @override
    async def open(self, *, serve: int = 0) -> None:
        await self.start_broker(working=False)
        self.door.closed = self.ours and not serve

    @override
    async def on_worker_startup(self, state: TaskiqState) -> None:
        self.door.closed = False
        await super().on_worker_startup(state)

    @override
    async def close(self) -> None:
        self.door.closed = True
        await asyncio.gather(*self._in_place)
        await self._memory.wait_all()
        closing, size = self.ours, getattr(self._memory.executor, "_max_workers", None)
        await super().close()
        if closing:  # its shutdown ended the threads
            self._memory.executor = self._memory.receiver.executor = ThreadPoolExecutor(size)
