"""`stop_after_n_failures`: what the n-th failure does to the swarm and to its members."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import pytest

from mageflow import FlowHandle, Mageflow, Status, SwarmConfig, SwarmSignature
from mageflow.errors import FlowCanceledError, FlowFailedError
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Stage


async def _waiting(client: Mageflow, *gates: str, fails: str = "") -> Sequence[object]:
    return [await client.asign("wait", gate=gate, fails=gate in fails) for gate in gates]


async def _statuses(client: Mageflow, swarm: SwarmSignature[object, object]) -> list[str]:
    found = [await client.load_signature(key) for key in await swarm.members()]
    return [signature.task_status.value for signature in found if signature]


async def test_failures_below_the_budget_do_not_fail(client: Mageflow) -> None:
    """With n - 1 failures the swarm succeeds with what succeeded."""
    members = ["fail", "fail", await client.asign("double", n=1)]
    swarm = await client.aswarm(members, config=SwarmConfig(stop_after_n_failures=3), is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == [2]


async def test_nth_failure_cancels_what_has_not_started(stage: Stage, client: Mageflow) -> None:
    """At the n-th failure the swarm fails: members not started are canceled and never run."""
    members = ["fail", "fail", "echo", await client.asign("double", n=1)]
    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=2)
    swarm = await client.aswarm(members, config=config, success_callbacks=["total"], is_swarm_closed=True)
    with pytest.raises(FlowFailedError) as caught:
        await swarm.aio_run(timeout=10)
    assert (caught.value.key, caught.value.failed_key) == (swarm.key, (await swarm.members())[1])
    await eventually(lambda: _are(client, swarm, ["failed", "failed", "canceled", "canceled"]), "the rest was canceled")
    assert stage.counts() == {"fail": 2}
    last = await client.load_signature((await swarm.members())[3])
    assert last is not None
    with pytest.raises(FlowCanceledError, match="swarm_failed"):
        await last.handle.result(1)
    progress = await swarm.progress()
    assert (progress.failed, progress.canceled, progress.pending, progress.active) == (2, 2, 0, 0)


async def _are(client: Mageflow, swarm: SwarmSignature[object, object], expected: list[str]) -> bool:
    return await _statuses(client, swarm) == expected


async def test_running_members_finish_unheeded(stage: Stage, client: Mageflow) -> None:
    """Members that run at the failure finish, read done or failed and fire their own callbacks; the outcome stays."""
    good = await client.asign("wait", gate="a", success_callbacks=["note"])
    bad = await client.asign("wait", gate="b", fails=True, error_callbacks=["on_error"])
    swarm = await _failing(stage, client, good, bad)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: _ended(handle, Status.FAILED), "the swarm failed")
    await eventually(lambda: stage.running == {"a", "b"}, "two members still run")
    progress = await swarm.progress()
    stage.open("a", "b")
    await eventually(lambda: _are(client, swarm, ["done", "failed", "failed", "canceled"]), "both finished")
    await eventually(lambda: stage.got("note") == [{"mageflow_results": "a"}], "the success callback of one ran")
    await eventually(lambda: len(stage.got("on_error")) == 2, "the error callbacks of the other and of the swarm ran")
    assert {message.error.key for message in stage.got("on_error")} == {bad.key, swarm.key}
    assert await handle.status() is Status.FAILED
    with pytest.raises(FlowFailedError, match="broken"):
        await handle.result(1)
    assert (await swarm.progress()).failed == progress.failed
    await swarm.arefresh()
    _, _, broken, canceled = swarm.tasks
    assert (swarm.finished_tasks, swarm.failed_tasks) == ((), (broken, canceled))
    assert swarm.current_running_tasks == (good.key, bad.key)


async def _failing(stage: Stage, client: Mageflow, *running: object) -> SwarmSignature[object, object]:
    """Return a swarm of what runs, one that fails when both run, and one that must not start."""

    async def fail_then() -> None:
        await eventually(lambda: stage.running == {"a", "b"}, "two members run")
        raise BrokenError("broken")

    client.task(name="fail-then")(fail_then)
    config = SwarmConfig(max_concurrency=3, stop_after_n_failures=1)
    return await client.aswarm(
        [*running, "fail-then", "echo"], config=config, error_callbacks=["on_error"], is_swarm_closed=True
    )


async def _ended(handle: FlowHandle[object], status: Status) -> bool:
    return await handle.status() is status


async def test_error_callbacks_fire_once(stage: Stage, client: Mageflow) -> None:
    """However many members fail after the budget is used up, the swarm's error callbacks fire once."""
    gates = [f"g{number}" for number in range(6)]
    members = await _waiting(client, *gates, fails=" ".join(gates))
    config = SwarmConfig(stop_after_n_failures=2)
    swarm = await client.aswarm(members, config=config, error_callbacks=["on_error"], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 6, "all members run")
    stage.open(*gates)
    await eventually(lambda: _are(client, swarm, ["failed"] * 6), "all members failed")
    with pytest.raises(FlowFailedError):
        await handle.result(10)
    await eventually(lambda: bool(stage.got("on_error")), "the error callback ran")
    assert len(stage.got("on_error")) == 1


async def test_interrupt_stops_running_members(stage: Stage, client: Mageflow) -> None:
    """With `on_stop="interrupt"` running members are stopped within seconds, read canceled and fire nothing."""
    running = await client.asign("wait", gate="a", success_callbacks=["note"], error_callbacks=["note"])
    config = SwarmConfig(stop_after_n_failures=1, on_stop="interrupt")

    async def fail_when_running() -> None:
        await eventually(lambda: stage.running == {"a"}, "the other member runs")
        raise BrokenError("broken")

    client.task(name="fail-when-running")(fail_when_running)
    swarm = await client.aswarm([running, "fail-when-running"], config=config, is_swarm_closed=True)
    with pytest.raises(FlowFailedError, match="broken"):
        await swarm.aio_run(timeout=10)
    await eventually(lambda: not stage.running, "the running member was stopped")
    await eventually(lambda: _are(client, swarm, ["canceled", "failed"]), "it reads canceled")
    with pytest.raises(FlowCanceledError, match="swarm_failed"):
        await running.handle.result(10)
    assert stage.got("note") == []


async def test_late_result_of_an_interrupted_thread_is_discarded(stage: Stage, client: Mageflow) -> None:
    """A thread cannot be stopped: its member reads canceled at once, what it returns later changes nothing."""
    go_on, inside = threading.Event(), threading.Event()

    def block() -> str:
        inside.set()
        go_on.wait(10)
        stage.keep("block", None)
        return "late"

    async def fail_when_inside() -> None:
        await eventually(inside.is_set, "the thread runs")
        raise BrokenError("broken")

    client.task(name="block")(block)
    client.task(name="fail-when-inside")(fail_when_inside)
    member = await client.asign("block", success_callbacks=["note"])
    config = SwarmConfig(stop_after_n_failures=1, on_stop="interrupt")
    swarm = await client.aswarm([member, "fail-when-inside"], config=config, is_swarm_closed=True)
    with pytest.raises(FlowFailedError):
        await swarm.aio_run(timeout=10)
    await eventually(lambda: _are(client, swarm, ["canceled", "failed"]), "the member reads canceled")
    go_on.set()
    await eventually(lambda: bool(stage.got("block")), "the thread returned")
    assert await _statuses(client, swarm) == ["canceled", "failed"]
    assert stage.got("note") == []


async def test_failed_container_counts_as_one_failure(stage: Stage, client: Mageflow) -> None:
    """A member chain that fails is one failure of the swarm, whatever was canceled in it."""
    chain = await client.achain(["fail", "echo", "echo"])
    config = SwarmConfig(stop_after_n_failures=2)
    swarm = await client.aswarm([chain, await client.asign("double", n=1)], config=config, is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == [2]
    progress = await swarm.progress()
    assert (progress.total, progress.done, progress.failed, progress.canceled) == (2, 1, 1, 0)


@pytest.mark.parametrize("on_stop", ["finish", "interrupt"])
async def test_running_container_of_a_failed_swarm_is_canceled(
    stage: Stage, client: Mageflow, on_stop: Literal["finish", "interrupt"]
) -> None:
    """A member chain that runs at the failure starts nothing more, reads canceled and fires nothing."""

    async def fail_when_running() -> None:
        await eventually(lambda: stage.running == {"a"}, "the first step runs")
        raise BrokenError("broken")

    client.task(name="fail-when-running")(fail_when_running)
    step = await client.asign("wait", gate="a", success_callbacks=["note"])
    chain = await client.achain([step, "echo"], success="total", error="on_error")
    config = SwarmConfig(stop_after_n_failures=1, on_stop=on_stop)
    swarm = await client.aswarm([chain, "fail-when-running"], config=config, is_swarm_closed=True)
    with pytest.raises(FlowFailedError, match="broken"):
        await swarm.aio_run(timeout=10)
    if on_stop == "finish":
        stage.open("a")
        assert await step.handle.result(10) == "a"
        await eventually(lambda: stage.got("note") == [{"mageflow_results": "a"}], "the step's own callback ran")
    await eventually(lambda: not stage.running, "nothing runs any more")
    await eventually(lambda: _are(client, swarm, ["canceled", "failed"]), "the chain reads canceled")
    with pytest.raises(FlowCanceledError, match="swarm_failed"):
        await chain.handle.result(10)
    assert await step.handle.status() is (Status.DONE if on_stop == "finish" else Status.CANCELED)
    assert set(stage.messages) <= {"note"}


async def test_cancels_before_the_run_use_the_budget_up(stage: Stage, client: Mageflow) -> None:
    """Members that were canceled before their swarm runs count: it fails at its run, and nothing starts."""
    members = [await client.asign("echo", n=n) for n in range(3)]
    config = SwarmConfig(stop_after_n_failures=2)
    swarm = await client.aswarm(members, config=config, error_callbacks=["on_error"], is_swarm_closed=True)
    for member in members[:2]:
        await member.cancel()
    with pytest.raises(FlowFailedError, match="Canceled"):
        await swarm.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("on_error")) == 1, "the error callback fires")
    assert stage.got("echo") == []
    assert await _statuses(client, swarm) == ["canceled"] * 3
