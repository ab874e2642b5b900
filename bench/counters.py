"""What the server counts: commands, time in scripts, round trips, memory, slow commands."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from mageflow.store import scripts

_SCRIPTS = {item.sha: item.name for item in vars(scripts).values() if isinstance(item, scripts.Script)}
_OURS = ("info", "config|", "zcard", "dbsize", "slowlog|", "latency|")
"""Commands of this module; flows use none of them."""
_PATIENCE = 300.0
_SLOW = 1000
"""Microseconds from which a command is noted."""
LIMIT = 5000
"""Microseconds that a script may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What happened since the last `reset`.

    `sent`: without what scripts called; `messages`: to the task manager; `round_trips`: reads from sockets.
    """

    commands: int
    sent: int
    messages: int
    script_time: float
    round_trips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Runs of a script over 1 ms: their number, the longest and the middle one in us, how many were over the limit."""

    name: str
    runs: int
    longest: int
    median: float
    over: int


class Counters:
    """The server's own counters, read over a connection of its own."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def reset(self) -> None:
        """Set the counters to nothing."""
        await self._redis.config_resetstat()

    async def read(self) -> Counts:
        """Return what was counted, without this module's own commands."""
        stats: Mapping[str, Any] = await self._redis.info("stats")
        by_name: Mapping[str, Any] = await self._redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(item["calls"]) for name, item in by_name.items()}
        own = sum(count for name, count in calls.items() if name.startswith(_OURS))
        return Counts(
            commands=sum(calls.values()) - own,
            sent=sum(count for name, count in calls.items() if name.startswith(("x", "eval", "multi", "exec"))),
            messages=calls.get("xadd", 0),
            script_time=by_name["cmdstat_evalsha"]["usec"] if "cmdstat_evalsha" in by_name else 0.0,
            round_trips=int(stats["total_reads_processed"]) - own,
        )

    async def settled(self, prefix: str) -> None:
        """Wait until no row is left to be dispatched or continued, but for what is to happen at its expiry."""

        def due() -> Awaitable[int]:
            return self._redis.zcount(f"{prefix}out", "-inf", int(time.time() + 100) * 1000)

        await self._until_at_most(0, due)

    async def emptied(self, keys: int) -> None:
        """Wait until at most so many keys are left."""
        await self._until_at_most(keys, self.keys)

    async def _until_at_most(self, limit: int, count: Callable[[], Awaitable[int]]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while await count() > limit:
            assert time.monotonic() < deadline, f"still more than {limit} after {_PATIENCE} s"
            await asyncio.sleep(0.02)

    async def keys(self) -> int:
        """Return how many keys there are."""
        return int(await self._redis.dbsize())

    async def memory(self) -> int:
        """Return the bytes of the data set, without messages that are through, noted commands and buffers."""
        async for queue in self._redis.scan_iter(_type="stream"):
            await self._redis.xtrim(queue, maxlen=0, approximate=False)
        await self._redis.slowlog_reset()
        await asyncio.sleep(1.5)
        info: Mapping[str, Any] = await self._redis.info("memory")
        return int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info["mem_aof_buffer"])

    async def watch(self) -> None:
        """From now on note slow commands and stalls."""
        await self._redis.config_set("slowlog-log-slower-than", _SLOW)
        await self._redis.config_set("slowlog-max-len", 100_000)
        await self._redis.config_set("latency-monitor-threshold", 1)
        await self._redis.slowlog_reset()
        await self._redis.latency_reset()

    async def slow(self) -> list[Slow]:
        """Return the scripts that were slow since `watch` or the last call, the slowest first."""
        found: dict[str, list[int]] = {}
        for entry in await self._redis.slowlog_get(100_000):
            words = entry["command"].split(b" ", 2)
            if words[0].upper() == b"EVALSHA":
                found.setdefault(_SCRIPTS.get(words[1].decode(), "other"), []).append(entry["duration"])
        await self._redis.slowlog_reset()
        return sorted((_slow(name, times) for name, times in found.items()), key=lambda item: -item.longest)

    async def stalls(self) -> dict[str, int]:
        """Return the longest stall in ms of each kind that the server knows of."""
        latest = await self._redis.execute_command("LATENCY", "LATEST")
        return {event[0].decode(): int(event[3]) for event in latest}


def _slow(name: str, times: list[int]) -> Slow:
    over = sum(time > LIMIT for time in times)
    return Slow(name=name, runs=len(times), longest=max(times), median=statistics.median(times), over=over)
