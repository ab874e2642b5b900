"""Workers come and go: in this process, in others, by their own will or by `kill -9`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from mageflow import Status, SwarmConfig, SwarmSignature, TTLConfig
from mageflow.testing.contracts.base import Contract, MakeStage
from mageflow.testing.contracts.flows import most_at_a_time
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.waiting import DEADLINE, eventually

_PATIENCE = 0.5
"""Seconds in which a worker that does not wait would have ended."""
_BRIEFLY = TTLConfig(done_ttl=0.5, active_ttl=600)
_RECOVERED = 10.0
"""Seconds within which the runs of a killed worker start again elsewhere."""


class WorkerContract(Contract):
    """A worker starts and ends cleanly, lets running tasks end, and can be lost."""

    async def test_nothing_is_left_of_a_worker(self, make_stage: MakeStage) -> None:
        """After a worker has ended there is no asyncio task and no thread of it (the loop's own executor stays)."""
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        async with make_stage() as stage:
            assert await stage.run("add", a=1) == 2
            assert await stage.run("thread", text="a") == ["a", False]

        lasting = ("asyncio_", *stage.subject.lasting_threads)

        def left() -> set[object]:
            new = set(threading.enumerate()) - threads
            return {*(asyncio.all_tasks() - tasks), *(one for one in new if not any(n in one.name for n in lasting))}

        await eventually(lambda: not left(), "tasks and threads of the worker are gone", found=left)

    async def test_no_key_is_left_of_a_flow(self, make_stage: MakeStage) -> None:
        """A flow that ended is gone after its time, with every key of it."""
        async with make_stage(ttl=_BRIEFLY) as stage:
            steps = [await stage.client.asign("give"), await stage.client.asign("add", a=1)]
            chain = await stage.client.achain(steps, success="on-success")
            handle = await chain.aio_run_no_wait()
            assert await stage.result(handle) == 2
            await stage.settled("on-success", 1)
            keys = [signature.key for signature in (chain, *steps)]
            await eventually(lambda: _are_gone(stage, keys), "the records are gone")

    async def test_worker_starts_twice(self, idle: Stage) -> None:
        """A worker that ended starts again in the same process, with the same client."""
        for n in range(2):
            async with idle.subject.serve(idle.client):
                assert await idle.run("echo", {"n": n}) == {"n": n}
        assert idle.ledger.of("echo") == [{"n": 0}, {"n": 1}]

    async def test_two_namespaces(self, stage: Stage) -> None:
        """Clients of two namespaces serve tasks of the same names in one process, each its own."""
        config = stage.config.model_copy(update={"namespace": f"{stage.config.namespace}-2"})
        other = stage.subject.make_client(config)

        @other.task(name="hello")
        async def hello() -> str:
            return "the other"

        async with stage.subject.serve(other):
            handles = [await stage.start("hello") for _ in range(3)]
            others = [await (await other.asign("hello")).aio_run_no_wait() for _ in range(3)]
            assert [await stage.result(handle) for handle in others] == ["the other"] * 3
            assert [await stage.result(handle) for handle in handles] == [stage.ledger.worker] * 3

    async def test_client_that_only_signs(self, idle: Stage) -> None:
        """A client without a worker starts no thread and runs nothing."""
        before = set(threading.enumerate())
        other = await idle.add_client(with_tasks=True)
        handle = await (await other.asign("echo")).aio_run_no_wait()
        assert await handle.status() is Status.PENDING
        assert idle.ledger.all() == []
        started = [thread.name for thread in set(threading.enumerate()) - before]
        assert [name for name in started if "mageflow" in name] == []

    async def test_worker_ends_while_tasks_run(self, idle: Stage) -> None:
        """A worker that is told to end lets running tasks end and records them; it takes nothing new."""
        stop = asyncio.Event()
        ready = asyncio.Event()
        server = asyncio.create_task(_serve(idle, ready, stop))
        await ready.wait()
        handles = [await idle.start("wait", gate="g"), await idle.start("block", gate="g")]
        await idle.noted("wait", "g started")
        await idle.noted("block", "g started")
        stop.set()
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            assert [await handle.status() for handle in handles] == [Status.ACTIVE] * 2
            assert not server.done(), "the worker ended while tasks ran"
        idle.ledger.open("g")
        await server
        assert [await handle.status() for handle in handles] == [Status.DONE] * 2, f"{idle.ledger}"
        assert [await handle.result(1) for handle in handles] == ["g", "g"]

    async def test_threads(self, stage: Stage) -> None:
        """Plain functions run in threads, side by side, and hold up neither each other nor the event loop."""
        handles = [await stage.start("block", gate=f"g{n}") for n in range(5)]
        for n in range(5):
            await stage.noted("block", f"g{n} started")
        assert await stage.run("add", a=1) == 2
        for n in reversed(range(5)):
            stage.ledger.open(f"g{n}")
            assert await stage.result(handles[n]) == f"g{n}"

    async def test_delayed_start(self, stage: Stage) -> None:
        """A start that the task manager is to delay comes after the delay, once."""
        option = stage.subject.delay_option
        if option is None:
            pytest.skip("the task manager has no delays")
        before = time.monotonic()
        handle = await (await stage.client.asign("echo")).aio_run_no_wait({"n": 1}, options={option: 1})
        assert await stage.run("add", a=1) == 2
        assert stage.ledger.of("echo") == []
        await stage.result(handle)
        took = time.monotonic() - before
        assert took >= 1, f"it ran after {took:.2f} s"
        assert await stage.settled("echo", 1) == [{"n": 1}]

    async def test_priority(self, idle: Stage) -> None:
        """Of what is queued the higher priority starts first."""
        option = idle.subject.priority_option
        if option is None:
            pytest.skip("the task manager has no priorities")
        async with idle.subject.serve(idle.client):
            pass  # now the task manager knows the task, and queues it without a worker
        count, slots = idle.subject.slots + 30, idle.subject.slots
        for n in range(count):
            await (await idle.client.asign("echo")).aio_run_no_wait({"n": n}, options={option: 1})
        urgent = await (await idle.client.asign("echo")).aio_run_no_wait({"n": "urgent"}, options={option: 3})
        async with idle.subject.serve(idle.client):
            await idle.result(urgent)
            await idle.settled("echo", count + 1)
        place = idle.ledger.of("echo").index({"n": "urgent"})
        assert place < slots + 15, f"it was the {place + 1}. to start"


class WorkerProcessContract(Contract):
    """Workers in processes of their own; skipped where the task manager has none."""

    async def test_killed_worker(self, idle: Stage) -> None:
        """What a worker ran when it was killed is done by another within 10 s, with all that follows."""
        workers = await idle.add_workers("one", "two")
        members = [await idle.client.asign("wait", gate=f"g{n}") for n in range(4)]
        members.append(await idle.client.asign("block", gate="g4"))
        members.extend([await idle.client.asign("echo", n=n) for n in range(4)])
        template = await idle.client.asign("on-success", label="swarm")
        swarm = await idle.client.aswarm(
            members, config=SwarmConfig(max_concurrency=5), success_callbacks=[template], is_swarm_closed=True
        )
        handle = await swarm.aio_run_no_wait()
        for n in range(4):
            await idle.noted("wait", f"g{n} started")
        await idle.noted("block", "g4 started")
        busiest = Counter(note.worker for note in idle.ledger.all() if note.task in {"wait", "block"}).most_common(1)
        [lost] = [worker for worker in workers if worker.name == busiest[0][0]]
        lost.kill()
        killed = time.monotonic()
        idle.ledger.open_all()
        results = await idle.result(handle, _RECOVERED + DEADLINE)
        took = time.monotonic() - killed
        assert results == ["g0", "g1", "g2", "g3", "g4", *({"n": n} for n in range(4))]
        assert took < _RECOVERED, f"it took {took:.1f} s"
        await idle.settled("on-success", 1)
        ended = [what for what in idle.ledger.of("wait") if what.endswith("ended")]
        assert sorted(ended) == [f"g{n} ended" for n in range(4)]
        progress = await swarm.progress()
        assert (progress.done, progress.failed, progress.active) == (9, 0, 0), f"{progress}"

    async def test_four_workers_and_three_clients(self, idle: Stage) -> None:
        """A swarm that clients without a worker make together is bounded over all workers together."""
        await idle.add_workers("one", "two", "three", "four")
        adders = [idle.client, await idle.add_client(), await idle.add_client()]
        swarm = await idle.client.aswarm(config=SwarmConfig(max_concurrency=4))
        handle = await swarm.aio_run_no_wait()
        for n in range(12):
            elsewhere = await adders[n % 3].load_signature(swarm.key)
            assert isinstance(elsewhere, SwarmSignature)
            await elsewhere.aio_run_in_swarm(await adders[n % 3].asign("wait", gate=f"g{n}"))
        await swarm.close_swarm()
        for n in range(12):
            await idle.noted("wait", f"g{n} started")
            idle.ledger.open(f"g{n}")
        assert await idle.result(handle) == [f"g{n}" for n in range(12)]
        assert most_at_a_time(idle.ledger.of("wait")) <= 4, f"{idle.ledger}"

    async def test_interrupt_reaches_another_process(self, idle: Stage) -> None:
        """Code that runs in a worker process is stopped by a client elsewhere, and goes on at resume."""
        await idle.add_workers("one")
        signature = await idle.client.asign("wait", gate="g")
        handle = await signature.aio_run_no_wait()
        await idle.noted("wait", "g started")
        await signature.interrupt()
        await idle.noted("wait", "g stopped")
        idle.ledger.open("g")
        await signature.resume()
        assert await idle.result(handle) == "g"

    async def test_worker_process_ends_gracefully(self, idle: Stage) -> None:
        """SIGTERM lets running tasks end and records their outcome."""
        [first] = await idle.add_workers("first")
        handles = [await idle.start("wait", gate="g"), await idle.start("block", gate="g")]
        await idle.noted("wait", "g started")
        await idle.noted("block", "g started")
        first.terminate()
        idle.ledger.open("g")
        await first.ended()
        assert [await handle.status() for handle in handles] == [Status.DONE] * 2, first.printed()

    async def test_server_restarts(self, idle: Stage) -> None:
        """When the task manager's server restarts, what was queued and what runs still ends, once."""
        restart = idle.subject.restart
        if restart is None:
            pytest.skip("the task manager's server cannot be restarted")
        await idle.add_workers("one")
        running = await idle.start("wait", gate="g")
        await idle.noted("wait", "g started")
        await restart()
        idle.ledger.open("g")
        assert await idle.result(running, 3 * DEADLINE) == "g"
        chain = await idle.client.achain([await idle.client.asign("add", a=1), "echo"])
        assert await idle.result(await chain.aio_run_no_wait(), 6 * DEADLINE) == {"mageflow_results": 2}
        assert idle.ledger.count("wait", "g ended") == 1


async def _serve(stage: Stage, ready: asyncio.Event, stop: asyncio.Event) -> None:
    async with stage.subject.serve(stage.client):
        ready.set()
        await stop.wait()


async def _are_gone(stage: Stage, keys: list[str]) -> bool:
    return [await stage.client.load_signature(key) for key in keys] == [None] * len(keys)
