"""Measure, and write what came out to RESULTS.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from bench import brokers, maps
from bench.bare import Bare, list_queue, stream, stream_with_results
from bench.counters import LIMIT, Counters, Slow
from bench.flows import Flows, breath
from bench.report import Row, compared, counted, render
from bench.rounds import alternate
from mageflow.backends.server import EmbeddedServer

RESULTS = Path(__file__).with_name("RESULTS.md")
STEPS, TASKS, BOUND, MEMBERS, IDLE = 100, 1000, 30, 10_000, 20.0


@asynccontextmanager
async def fresh_server() -> AsyncGenerator[tuple[str, Redis]]:
    """Run a server in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        server = await EmbeddedServer.acquire(Path(directory, "data"))
        redis = Redis.from_url(server.url)
        try:
            yield server.url, redis
        finally:
            await redis.aclose()
            await server.release()


async def compare(url: str, counters: Counters, rounds: int) -> list[Row]:
    """Measure chains, swarms and their creation side by side with the bare task manager."""
    flows = Flows(url)
    by_stream, by_list, with_results = Bare(stream(url)), Bare(list_queue(url)), Bare(stream_with_results(url))
    async with AsyncExitStack() as stack:
        for side in (flows, by_stream, by_list, with_results):
            await stack.enter_async_context(side.worker())
        chain, on_stream, on_list = await alternate(
            rounds, lambda: flows.chain(STEPS), lambda: by_stream.chain(STEPS), lambda: by_list.chain(STEPS)
        )
        swarm, at_once = await alternate(rounds, lambda: flows.swarm(TASKS), lambda: with_results.swarm(TASKS))
        bound, all_at_once, semaphore = await alternate(
            rounds,
            lambda: flows.swarm(TASKS, BOUND),
            lambda: with_results.swarm(TASKS),
            lambda: with_results.bounded_swarm(TASKS, BOUND),
        )
        signed, created, kicked = await alternate(
            rounds, lambda: flows.signed(TASKS), lambda: flows.created(TASKS), lambda: with_results.kick(TASKS)
        )
        trips = [await round_trips(counters, work) for work in (flows.chain, by_stream.chain)]
    beyond = trips[0] - trips[1]
    run, bound_run = [item[1] for item in swarm], [item[1] for item in bound]
    whole, bound_whole = [sum(item) for item in swarm], [sum(item) for item in bound]
    return [
        compared("chain step, against the stream broker", chain, on_stream, per=STEPS, budget=1.0),
        compared("chain step, against the list broker", chain, on_list, per=STEPS, budget=1.0),
        counted(
            "round trips of a chain step, beyond the bare one",
            beyond,
            shown=f"{trips[0]:.1f} - {trips[1]:.1f} = {beyond:.1f}",
            budget=2.0,
        ),
        compared("swarm of 1,000, unbounded", run, at_once, per=TASKS, budget=0.9),
        compared("the same with its creation", whole, at_once, per=TASKS),
        compared("swarm of 1,000, bound 30, against all at once", bound_run, all_at_once, per=TASKS, budget=1.2),
        compared("the same with its creation", bound_whole, all_at_once, per=TASKS),
        compared("swarm of 1,000, bound 30, against a semaphore of 30", bound_run, semaphore, per=TASKS, budget=1.2),
        compared("create a swarm of 1,000, against 1,000 sends", created, kicked, per=TASKS),
        compared("sign 1,000 tasks one by one, against 1,000 sends", [s for s, _ in signed], kicked, per=TASKS),
        compared("make a swarm of 1,000 signatures, against 1,000 sends", [m for _, m in signed], kicked, per=TASKS),
    ]


async def mapped(url: str, redis: Redis, rounds: int, items: int) -> list[Row]:
    """Measure maps: a great many items that wait, and items against the members of a swarm."""
    rows = await maps.waiting(url, redis, items)
    flows = Flows(url, namespace="mapped")
    async with flows.worker():
        by_map, by_swarm = await alternate(
            rounds, lambda: maps.run(flows, maps.TASKS), lambda: flows.swarm(maps.TASKS, maps.BOUND)
        )
    return [*rows, maps.against_swarm(by_map, by_swarm)]


async def round_trips(counters: Counters, chain: Callable[[int], Awaitable[float]]) -> float:
    """Return how many round trips a step takes."""
    await breath()
    await counters.reset()
    await chain(STEPS)
    return (await counters.read()).round_trips / STEPS


async def scale(url: str, counters: Counters, large: int) -> tuple[list[Row], list[str]]:
    """Measure what a task costs the server in small and in large swarms, and the longest script."""
    flows = Flows(url, namespace="scale", active_ttl=5.0, done_ttl=2.0)

    async def costs(tasks: int) -> tuple[float, float, float]:
        await breath()
        await counters.reset()
        await flows.swarm(tasks)
        await counters.settled(flows.prefix)
        counts = await counters.read()
        return counts.commands / tasks, counts.script_time / tasks, counts.messages / tasks

    phases: dict[str, list[Slow]] = {}
    async with flows.worker():
        await flows.swarm(TASKS)
        small = [await costs(TASKS) for _ in range(5)]
        keys = await counters.keys()
        await counters.watch()
        await flows.created(large)
        phases["creation"] = await counters.slow()
        await counters.emptied(keys + 100)
        phases["expiry of what was never started"] = await counters.slow()
        big = await costs(large)
        phases["creation, run and end"] = await counters.slow()
        await counters.emptied(keys + 100)
        phases["expiry of what has ended"] = await counters.slow()
        stalls = await counters.stalls()
        small += [await costs(TASKS) for _ in range(5)]
    commands, time, _ = (statistics.median(column) for column in zip(*small, strict=True))
    longest = max((item.longest for slow in phases.values() for item in slow), default=0)
    rows = [
        growth(f"Redis commands a task, {large:,} against 1,000", big[0], commands, ""),
        growth(f"script time a task, {large:,} against 1,000", big[1], time, " us"),
        counted(f"messages a task, {large:,}", big[2], shown=f"{big[2]:.2f}", budget=1.0),
        counted(
            f"longest script of a swarm of {large:,}",
            longest / 1000,
            shown=f"{longest / 1000:.1f} ms",
            budget=LIMIT / 1000,
            unit=" ms",
        ),
    ]
    notes = [f"longest scripts, {phase}: {slowest(slow)}" for phase, slow in phases.items()]
    listed = ", ".join(f"{kind} {longest} ms" for kind, longest in stalls.items())
    notes.append(f"longest stalls as the server saw them: {listed}; what `fast-command` took is the machine's doing")
    return rows, notes


def growth(what: str, large: float, small: float, unit: str) -> Row:
    """Return the row of a cost that must not grow with the swarm."""
    return Row(
        what=what,
        flow=f"{large:.1f}{unit}, {small:.1f}{unit}",
        ratio=f"{large / small:.2f}",
        value=large / small,
        budget=1.1,
        unit=" x",
    )


def slowest(slow: list[Slow]) -> str:
    """Return the three slowest scripts in words."""
    listed = [
        f"`{item.name}` {item.longest / 1000:.1f} ms (of {item.runs} over 1 ms the median is {item.median / 1000:.1f}, "
        f"{item.over} are over the budget)"
        for item in slow[:3]
    ]
    return ", ".join(listed) or "none over 1 ms"


async def memory(url: str, counters: Counters) -> list[Row]:
    """Measure what a member signature occupies, not started and ended."""
    flows = Flows(url, namespace="memory")
    rows: list[Row] = []
    async with flows.worker():
        await flows.swarm(100)
        await counters.settled(flows.prefix)
        empty = await counters.memory()
        async for state in flows.kept(MEMBERS):
            await counters.settled(flows.prefix)
            size = (await counters.memory() - empty) / MEMBERS
            rows.append(counted(f"bytes of a member, {state}", size, shown=f"{size:.0f}", budget=600))
    return rows


async def idle(url: str, counters: Counters) -> Row:
    """Measure what a worker sends that has nothing to do."""
    async with Flows(url, namespace="idle").worker():
        await asyncio.sleep(1)
        await counters.reset()
        await asyncio.sleep(IDLE)
        rate = (await counters.read()).sent / IDLE
    return counted("commands a second of an idle worker with three tasks", rate, shown=f"{rate:.2f}", budget=5)


async def measure(rounds: int, large: int, items: int) -> str:
    """Run everything, each part on an empty server."""
    rows: list[Row] = []
    notes: list[str] = []
    async with fresh_server() as (url, redis):
        counters = Counters(redis)
        version = str((await redis.info("server")).get("valkey_version", "?"))
        print("side by side with the bare task manager ...", flush=True)
        rows += await compare(url, counters, rounds)
        await redis.flushall()
        print(f"a swarm of {large:,} ...", flush=True)
        grown, notes = await scale(url, counters, large)
        rows += grown
        await redis.flushall()
        print("memory, and an idle worker ...", flush=True)
        rows += await memory(url, counters)
        await redis.flushall()
        rows.append(await idle(url, counters))
        await redis.flushall()
        print(f"maps, one of {items:,} ...", flush=True)
        rows += await mapped(url, redis, rounds, items)
        await redis.flushall()
        print("each broker ...", flush=True)
        rows += await brokers.measure(url, rounds)
    return render(rows, notes, rounds=rounds, server=f"Valkey {version}")


def main() -> None:
    """Read the options, measure, write and print the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each comparison, 5 or more (default: 7)")
    parser.add_argument("--full", action="store_true", help="a swarm of 100,000 instead of 20,000")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the report goes (default: bench/RESULTS.md)"
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="that wait in a map (default: 1,000,000)")
    options = parser.parse_args()
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    large = 100_000 if options.full else 20_000
    report = asyncio.run(measure(max(options.rounds, 5), large, options.items))
    options.output.write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
