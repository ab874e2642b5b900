"""Suspend, interrupt, resume and cancel reach what the task manager holds and runs."""

from __future__ import annotations

import time

import pytest

from mageflow import Status, SwarmConfig
from mageflow.errors import FlowCanceledError, TaskAlreadyRunningError
from mageflow.testing.contracts.base import Contract
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.waiting import DEADLINE, eventually

_AT_ONCE = 1.0
"""Seconds within which running code is stopped."""
_LOAD = 1.0
"""Seconds more for a machine that has other things to do."""


class SteeringContract(Contract):
    """Held work does not start, stopped work stops, and both go on where they were."""

    async def test_interrupt_stops_running_code(self, stage: Stage) -> None:
        """A coroutine is stopped within a second, on whichever worker; no callback fires, no attempt follows."""
        signature = await stage.client.asign("stubborn", gate="g", error_callbacks=["on-error"])
        await signature.aio_run_no_wait()
        await stage.noted("stubborn", "g started")
        before = time.monotonic()
        assert await signature.interrupt() is Status.INTERRUPTED
        await stage.noted("stubborn", "g stopped")
        took = time.monotonic() - before
        assert took < _AT_ONCE + _LOAD, f"it took {took:.1f} s"
        await stage.run("hello")
        assert stage.ledger.of("stubborn") == ["g started", "g stopped"]
        assert stage.ledger.of("on-error") == []
        await signature.cancel()

    async def test_resume_after_interrupt(self, stage: Stage) -> None:
        """What was interrupted runs again with its message, its attempts not used up, and the flow goes on."""
        signature = await stage.client.asign("stubborn", gate="g")
        chain = await stage.client.achain([signature, "echo"])
        handle = await chain.aio_run_no_wait()
        await stage.noted("stubborn", "g started")
        await chain.interrupt()
        await stage.noted("stubborn", "g stopped")
        stage.ledger.open("g")
        await chain.resume()
        assert await stage.result(handle) == {"mageflow_results": "g"}
        assert stage.ledger.of("stubborn") == ["g started", "g stopped", "g started", "g ended"]

    async def test_suspended_before_its_start(self, stage: Stage) -> None:
        """A suspended signature that is started waits for its resume, with the message."""
        signature = await stage.client.asign("echo", bound=1)
        await signature.suspend()
        handle = await signature.aio_run_no_wait({"given": 2})
        await stage.run("hello")
        assert stage.ledger.of("echo") == []
        wait = await stage.client.why(signature.key)
        assert wait is not None
        assert wait.kind == "mark", f"it waits on {wait}"
        await signature.resume()
        assert await stage.result(handle) == {"bound": 1, "given": 2}
        assert len(stage.ledger.of("echo")) == 1

    async def test_suspended_while_it_is_queued(self, idle: Stage) -> None:
        """What is suspended after its message left does not run when the message arrives, and runs at resume."""
        handles = [await idle.start("echo", {"n": n}) for n in range(2)]
        await idle.client.pause(handles[0].key)
        async with idle.subject.serve(idle.client):
            assert await idle.result(handles[1], 2 * DEADLINE) == {"n": 1}
            await idle.run("hello")
            assert idle.ledger.of("echo") == [{"n": 1}]
            await idle.client.resume(handles[0].key)
            assert await idle.result(handles[0]) == {"n": 0}

    async def test_running_task_is_not_suspended(self, stage: Stage) -> None:
        """To suspend a lone task that runs is refused; it goes on."""
        signature = await stage.client.asign("wait", gate="g")
        handle = await signature.aio_run_no_wait()
        await stage.noted("wait", "g started")
        with pytest.raises(TaskAlreadyRunningError):
            await signature.suspend()
        stage.ledger.open("g")
        assert await stage.result(handle) == "g"

    async def test_suspended_swarm(self, stage: Stage) -> None:
        """Running members of a suspended swarm end and count, no other starts before the resume."""
        members = [await stage.client.asign("wait", gate=f"g{n}") for n in range(4)]
        swarm = await stage.client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
        handle = await swarm.aio_run_no_wait()
        await stage.noted("wait", "g0 started")
        await stage.noted("wait", "g1 started")
        await swarm.suspend()
        stage.ledger.open("g0", "g1", "g2", "g3")
        await stage.noted("wait", "g0 ended")
        await stage.noted("wait", "g1 ended")
        await stage.run("hello")
        assert len(stage.ledger.of("wait")) == 4, f"{stage.ledger}"
        await swarm.resume()
        assert await stage.result(handle) == ["g0", "g1", "g2", "g3"]

    async def test_cancel_stops_running_code(self, stage: Stage) -> None:
        """Cancel stops a coroutine for good; its callbacks do not fire, its chain fails and is told why."""
        signature = await stage.client.asign("stubborn", gate="g", error_callbacks=["on-error"])
        end = await stage.client.asign("on-error", whose="chain")
        chain = await stage.client.achain([signature, "echo"], error=end)
        handle = await chain.aio_run_no_wait()
        await stage.noted("stubborn", "g started")
        assert await signature.cancel() is Status.CANCELED
        await stage.noted("stubborn", "g stopped")
        error = await stage.failure(handle)
        assert error.type == "Canceled"
        [note] = await stage.settled("on-error", 1)
        assert (note["whose"], note["error"]["type"]) == ("chain", "Canceled")
        assert stage.ledger.of("stubborn") == ["g started", "g stopped"]

    async def test_canceled_while_it_is_queued(self, idle: Stage) -> None:
        """What is canceled after its message left never runs."""
        handles = [await idle.start("echo", {"n": n}) for n in range(2)]
        await idle.client.cancel(handles[0].key)
        async with idle.subject.serve(idle.client):
            assert await idle.result(handles[1], 2 * DEADLINE) == {"n": 1}
            await idle.run("hello")
        assert idle.ledger.of("echo") == [{"n": 1}]
        with pytest.raises(FlowCanceledError):
            await handles[0].result(1)

    async def test_interrupted_thread(self, stage: Stage) -> None:
        """A thread cannot be stopped: its result is lost; after resume it runs again once the first has ended."""
        signature = await stage.client.asign("block", gate="g")
        handle = await signature.aio_run_no_wait()
        await stage.noted("block", "g started")
        await signature.interrupt()
        await signature.resume()
        await stage.run("hello")
        assert stage.ledger.of("block") == ["g started"]
        stage.ledger.open("g")
        assert await stage.result(handle) == "g"
        assert stage.ledger.of("block") == ["g started", "g ended"] * 2

    async def test_canceled_swarm(self, stage: Stage) -> None:
        """Cancel of a swarm stops what runs and starts no other; the worker is free at once."""
        members = [await stage.client.asign("wait", gate=f"g{n}") for n in range(4)]
        swarm = await stage.client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
        handle = await swarm.aio_run_no_wait()
        await stage.noted("wait", "g0 started")
        await stage.noted("wait", "g1 started")
        await swarm.cancel()
        await eventually(
            lambda: sum(note.endswith("stopped") for note in stage.ledger.of("wait")) == 2,
            "both running members are stopped",
            found=lambda: stage.ledger,
        )
        assert await stage.run("add", a=1) == 2
        assert not {"g2 started", "g3 started"} & {*stage.ledger.of("wait")}
        with pytest.raises(FlowCanceledError):
            await handle.result(1)
