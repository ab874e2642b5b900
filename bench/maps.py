"""Maps: what a million items cost the client, the server, and each of them, against a swarm of signatures.

`python -m bench.maps URL ITEMS` fills a map in a process of its own and prints its peak memory and the seconds.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator

from redis.asyncio import Redis

from bench.flows import Flows
from bench.report import Row, compared, counted
from mageflow import SwarmConfig

SMALL, TASKS, BOUND = 10_000, 1000, 30


def items(count: int) -> Iterator[dict[str, int]]:
    """Yield messages; nothing holds all of them."""
    return ({"n": n} for n in range(count))


def payload(count: int) -> int:
    """Return the bytes of so many messages."""
    return sum(len(f'{{"n":{n}}}') for n in range(count))


async def fill(url: str, count: int) -> tuple[str, float]:
    """Fill a map; return its id and the seconds."""
    flows = Flows(url, namespace="maps")
    await flows.client.startup()
    started = time.perf_counter()
    mapped = await flows.client.amap("nothing", items(count))
    seconds = time.perf_counter() - started
    await flows.client.shutdown()
    return mapped.id, seconds


async def filled(url: str, redis: Redis, count: int) -> tuple[float, float, float]:
    """Fill a map in a process of its own; return its peak memory in MiB, us an item, and bytes of one that waits."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.maps", url, str(count), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    identifier, peak, seconds = json.loads(output)
    size = await redis.memory_usage(f"{{mf:maps}}:i:{identifier}", samples=0)
    await redis.flushall()
    return peak / 1024, seconds / count * 1e6, (int(size or 0) - payload(count)) / count


async def run(flows: Flows, count: int) -> float:
    """Create and run a map, and read its results."""
    started = time.perf_counter()
    mapped = await flows.client.amap("nothing", items(count), config=SwarmConfig(max_concurrency=BOUND))
    assert len(await mapped.aio_run(timeout=count / 10)) == count
    return time.perf_counter() - started


async def waiting(url: str, redis: Redis, count: int) -> list[Row]:
    """Measure what items that wait cost the client and the server."""
    small, large = await filled(url, redis, SMALL), await filled(url, redis, count)
    return [
        counted(
            f"peak memory of a client that adds {count:,} items, over that of {SMALL:,}",
            large[0] - small[0],
            shown=f"{large[0]:.0f} - {small[0]:.0f} = {large[0] - small[0]:.1f} MiB",
            budget=16,
        ),
        counted(
            f"bytes of a waiting item beyond its message, {count:,}", large[2], shown=f"{large[2]:.1f}", budget=100
        ),
        counted(f"us to add an item, {count:,}", large[1], shown=f"{large[1]:.0f}", budget=1000),
    ]


def against_swarm(mapped: list[float], swarm: list[tuple[float, float]]) -> Row:
    """Return the row of a map against a swarm of signatures, creation included."""
    return compared(
        "map of 1,000, bound 30, against a swarm with its creation", mapped, [sum(s) for s in swarm], per=TASKS
    )


def main() -> None:
    """Fill a map and print what it took."""
    url, count = sys.argv[1], int(sys.argv[2])
    identifier, seconds = asyncio.run(fill(url, count))
    print(json.dumps([identifier, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds]))


if __name__ == "__main__":
    main()
