"""Flows on Hatchet next to bare Hatchet: `python -m bench.hatchet [--tasks 1000] [--steps 50] [--rounds 3]`.

On the engine that `HATCHET_CLIENT_TOKEN` and its like name; without them on the engine for tests, whose figures say
what our side costs and nothing about Hatchet's: those are printed and not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hatchet_sdk import ClientConfig, Context, Hatchet
from pydantic import BaseModel

from bench.report import Row, compared, render
from mageflow import Mageflow, MageflowConfig, SwarmConfig
from mageflow.backends.server import EmbeddedServer
from mageflow.flow.ids import new_id
from tests.hatchet.process import engine_process

RESULTS = Path(__file__).with_name("RESULTS-hatchet.md")
INTRODUCTION = """\
# What flows cost on Hatchet

Written by `python -m bench.hatchet` on a real engine. Both sides use the same engine and the same worker process, in
turns; *Bare* is a bulk of the same tasks whose results are awaited, for chains a task that runs the next with Hatchet's
own client. *Flow* and *Bare* are medians for a task, *Ratio* is the median of the ratios of neighbouring rounds."""
SLOTS, BOUND = 100, 30
BOUNDED, UNBOUNDED, CHAIN = f"swarm, bound {BOUND}", "swarm, unbounded", "chain step"
BUDGETS = {BOUNDED: 1.15, UNBOUNDED: 0.9, CHAIN: 1.0}


class Step(BaseModel):
    left: int = 0
    started: float = 0.0


class Bench:
    """A client with tasks of both kinds; the worker process makes the same."""

    def __init__(self, namespace: str) -> None:
        hatchet = Hatchet(config=ClientConfig(namespace=namespace))
        self.bare = hatchet
        self.flows = Mageflow(hatchet, os.environ["REDIS_URL"], config=MageflowConfig(namespace=namespace))

        @hatchet.task(name="bare", input_validator=Step)
        async def bare(message: Step, _ctx: Context) -> dict[str, int]:
            return {"left": message.left}

        @hatchet.task(name="bare-step", input_validator=Step)
        async def bare_step(message: Step, _ctx: Context) -> dict[str, Any]:
            if message.left:
                following = Step(left=message.left - 1, started=message.started)
                ref = await bare_step.aio_run(following, wait_for_result=False)
                return {"next": ref.workflow_run_id}
            return {"took": time.time() - message.started}

        @self.flows.task(name="flow")
        async def flow(message: Step) -> int:
            return message.left

        self.plain, self.plain_step, self.task = bare, bare_step, flow

    def worker(self) -> Any:
        tasks = [self.plain, self.plain_step, self.task]
        return self.flows.worker("bench", slots=SLOTS, workflows=tasks)

    async def bulk(self, tasks: int) -> float:
        before = time.perf_counter()
        items = [self.plain.create_bulk_run_item(Step(left=n)) for n in range(tasks)]
        refs = await self.plain.aio_run_many(items, wait_for_result=False)
        await asyncio.gather(*(ref.aio_result() for ref in refs))
        return (time.perf_counter() - before) / tasks

    async def swarm(self, tasks: int, bound: int | None) -> float:
        members = [await self.flows.asign(self.task, left=n) for n in range(tasks)]
        config = SwarmConfig(max_concurrency=bound)
        swarm = await self.flows.aswarm(members, config=config, is_swarm_closed=True)
        before = time.perf_counter()
        results = await swarm.aio_run(timeout=300)
        assert len(results) == tasks
        return (time.perf_counter() - before) / tasks

    async def chain(self, steps: int) -> float:
        chain = await self.flows.achain([await self.flows.asign(self.task) for _ in range(steps)])
        before = time.perf_counter()
        await chain.aio_run(timeout=300)
        return (time.perf_counter() - before) / steps

    async def chain_by_hand(self, steps: int) -> float:
        """The last step tells how long it took: nobody waits for those between."""
        first = Step(left=steps - 1, started=time.time())
        output = await self.plain_step.aio_run(first)
        while "next" in output:
            ref = self.bare.runs.get_run_ref(output["next"])
            [output] = (await ref.aio_result()).values()
        return output["took"] / steps


@contextmanager
def surroundings(namespace: str) -> Generator[None]:
    """An engine where none is named, a Redis, and a worker process."""
    with ExitStack() as stack:
        if "HATCHET_CLIENT_TOKEN" not in os.environ:
            os.environ.update(stack.enter_context(engine_process()).environment)
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        server = asyncio.run(EmbeddedServer.acquire(Path(directory)))
        stack.callback(lambda: asyncio.run(server.release()))
        os.environ["REDIS_URL"] = server.url
        command = [sys.executable, "-m", "bench.hatchet", "--worker", namespace]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        stack.callback(worker.wait)
        stack.callback(os.killpg, worker.pid, signal.SIGKILL)
        yield


async def measure(bench: Bench, tasks: int, steps: int, rounds: int) -> list[Row]:
    works: dict[str, Callable[[], Awaitable[float]]] = {
        "bulk, bare": lambda: bench.bulk(tasks),
        BOUNDED: lambda: bench.swarm(tasks, BOUND),
        UNBOUNDED: lambda: bench.swarm(tasks, None),
        "chain step, by hand": lambda: bench.chain_by_hand(steps),
        CHAIN: lambda: bench.chain(steps),
    }
    await bench.flows.startup()
    await (await bench.flows.asign(bench.task)).aio_run(timeout=60)  # the worker is there
    await bench.plain.aio_run(Step())
    took: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = await work()
            if number:
                took[name].append(seconds)
    await bench.flows.shutdown()
    bulk, by_hand = took.pop("bulk, bare"), took.pop("chain step, by hand")
    return [
        compared(name, series, by_hand if name == CHAIN else bulk, per=1, budget=BUDGETS[name])
        for name, series in took.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker")
    parser.add_argument("--engine", default="Hatchet's engine", help="what the engine is called in the report")
    asked = parser.parse_args()
    if asked.worker:
        Bench(asked.worker).worker().start()
        return
    namespace = f"bench{new_id()}".lower()
    real = "HATCHET_CLIENT_TOKEN" in os.environ
    with surroundings(namespace):
        rows = asyncio.run(measure(Bench(namespace), asked.tasks, asked.steps, asked.rounds))
    notes = [f"swarms and bulks of {asked.tasks:,} tasks, chains of {asked.steps:,}"]
    report = render(
        rows,
        notes,
        rounds=asked.rounds,
        server=asked.engine,
        introduction=INTRODUCTION,
        packages=["hatchet-sdk", "redis"],
    )
    if real:
        RESULTS.write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
