"""The work as flows, on a client whose worker runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from taskiq import AsyncBroker

from bench.bare import SLOTS
from mageflow import Mageflow, MageflowConfig, ReturnValue, SwarmConfig, TTLConfig

RESULT = "x" * 48
"""50 bytes as JSON."""


class Flows:
    """Tasks that do nothing, and the flows made of them."""

    def __init__(
        self,
        url: str,
        *,
        broker: AsyncBroker | None = None,
        namespace: str = "bench",
        active_ttl: float = 3600.0,
        done_ttl: float = 300.0,
    ) -> None:
        config = MageflowConfig(namespace=namespace, ttl=TTLConfig(active_ttl=active_ttl, done_ttl=done_ttl))
        self.client = Mageflow(broker, url, config=config)
        self.prefix = f"{{mf:{namespace}}}:"

        @self.client.task(name="nothing")
        async def nothing() -> None:
            return

        @self.client.task(name="step")
        async def step(value: ReturnValue[int] = -1) -> int:
            return value + 1

        @self.client.task(name="text")
        async def text() -> str:
            return RESULT

        self._nothing, self._step, self._text = nothing, step, text

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncGenerator[Flows]:
        """Run tasks in this process while the context is open."""
        async with self.client.worker(slots=SLOTS):
            yield self

    async def chain(self, steps: int) -> float:
        """Each step gets the result of the one before it."""
        chain = await self.client.achain([self._step] * steps)
        started = time.perf_counter()
        assert await chain.aio_run(timeout=120) == steps - 1
        return time.perf_counter() - started

    async def swarm(self, tasks: int, bound: int | None = None) -> tuple[float, float]:
        """Return the seconds that the creation took and those from the start to the list of results."""
        started = time.perf_counter()
        swarm = await self.client.aswarm(
            [self._nothing] * tasks, config=SwarmConfig(max_concurrency=bound), is_swarm_closed=True
        )
        created = time.perf_counter()
        results = await swarm.aio_run(timeout=tasks / 10)
        assert len(results) == tasks
        return created - started, time.perf_counter() - created

    async def created(self, tasks: int) -> float:
        """Write a swarm that is never started."""
        started = time.perf_counter()
        await self.client.aswarm([self._nothing] * tasks, is_swarm_closed=True)
        return time.perf_counter() - started

    async def signed(self, tasks: int) -> tuple[float, float]:
        """Sign one task after the other, then make a swarm of the signatures; return the seconds of both."""
        started = time.perf_counter()
        signatures = [await self.client.asign(self._nothing) for _ in range(tasks)]
        signed = time.perf_counter()
        await self.client.aswarm(signatures, is_swarm_closed=True)
        return signed - started, time.perf_counter() - signed

    async def kept(self, tasks: int) -> AsyncGenerator[str]:
        """Write a swarm whose tasks return 50 bytes, then run it; say when each is through."""
        swarm = await self.client.aswarm([self._text] * tasks, config=SwarmConfig(), is_swarm_closed=True)
        yield "created"
        await swarm.aio_run(timeout=tasks / 10)
        yield "ended"


async def breath() -> None:
    """Let background work of both sides end."""
    await asyncio.sleep(0.05)
