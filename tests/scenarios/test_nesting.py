"""Containers as members and as callbacks."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import Mageflow, Status, SwarmConfig
from mageflow.errors import FlowFailedError
from tests.eventually import eventually
from tests.scenarios.support import Stage


async def test_swarms_of_chains_of_swarms(client: Mageflow) -> None:
    """A chain in a swarm in a chain in a swarm: results come up through all levels in order."""
    outer: list[object] = []
    for n in range(3):
        inner = await client.aswarm([await client.asign("double", n=n), await client.asign("double", n=n + 1)])
        await inner.close_swarm()
        outer.append(await client.achain([inner, "total", await client.asign("add", by=100)]))
    swarm = await client.aswarm(outer, is_swarm_closed=True)
    chain = await client.achain([swarm, "total"])
    assert await (await client.aswarm([chain], is_swarm_closed=True)).aio_run(timeout=10) == [318]


async def test_member_container_holds_one_slot(stage: Stage, client: Mageflow) -> None:
    """A container counts as one member and one slot, whatever runs in it."""
    inner = [
        await client.aswarm(
            [await client.asign("wait", gate=f"{side}{number}") for number in range(3)], is_swarm_closed=True
        )
        for side in ("a", "b")
    ]
    swarm = await client.aswarm(inner, config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: stage.running == {"a0", "a1", "a2"}, "the first member runs whole")
    progress = await swarm.progress()
    assert (progress.total, progress.active, progress.pending) == (2, 1, 1)
    stage.open("a0", "a1")
    await eventually(lambda: stage.running == {"a2"}, "two of three ended")
    assert not any(gate.startswith("b") for gate in stage.started)
    stage.open("a2", "b0", "b1", "b2")
    assert await handle.result(10) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


async def test_chain_in_a_swarm_keeps_its_slot_between_steps(stage: Stage, client: Mageflow) -> None:
    """While a member chain goes from step to step, no other member takes its slot."""
    chains = [
        await client.achain([await client.asign("wait", gate=f"{name}{step}") for step in range(3)]) for name in "abc"
    ]
    swarm = await client.aswarm(chains, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    stage.open(*(f"{name}{step}" for name in "abc" for step in range(3)))
    assert await swarm.aio_run(timeout=10) == ["a2", "b2", "c2"]
    assert stage.peak <= 2
    assert stage.started.index("c0") > min(stage.started.index("a2"), stage.started.index("b2"))


async def test_failure_deep_below_fails_chains_up_to_the_top(stage: Stage, client: Mageflow) -> None:
    """A failure goes up through chains; callbacks fire from the inside to the outside, each with its own key."""
    failing = await client.asign("fail", text="deep", error_callbacks=["on_error"])
    inner = await client.achain(["echo", failing, "note"], name="inner", error="on_error")
    middle = await client.achain([inner, "note"], name="middle", error="on_error")
    outer = await client.achain([middle, "note"], name="outer", error="on_error")
    with pytest.raises(FlowFailedError) as caught:
        await outer.aio_run({"a": 1}, timeout=10)
    assert (caught.value.message, caught.value.failed_key) == ("deep", failing.key)
    await eventually(lambda: len(stage.got("on_error")) == 4, "the callbacks of all levels ran")
    told = {(message.error.task_name, message.error.key) for message in stage.got("on_error")}
    assert told == {("fail", failing.key), ("inner", inner.key), ("middle", middle.key), ("outer", outer.key)}
    assert {message.error.message for message in stage.got("on_error")} == {"deep"}
    received = stage.got("fail")[0]
    assert all(message.model_extra == received for message in stage.got("on_error"))
    assert stage.got("note") == []
    for signature in (inner, middle, outer):
        await signature.arefresh()
        assert signature.task_status is Status.FAILED


async def test_failed_swarm_fails_its_chain(stage: Stage, client: Mageflow) -> None:
    """A swarm that uses up its budget as a step fails the chain with its error; the next step never starts."""
    config = SwarmConfig(stop_after_n_failures=1)
    swarm = await client.aswarm([await client.asign("fail", text="step")], config=config, is_swarm_closed=True)
    chain = await client.achain(["echo", swarm, "note"], error="on_error")
    with pytest.raises(FlowFailedError, match="step"):
        await chain.aio_run({"a": 1}, timeout=10)
    await eventually(lambda: len(stage.got("on_error")) == 1, "the chain's callback ran")
    assert stage.got("note") == []


async def test_canceled_below_reaches_every_depth(stage: Stage, client: Mageflow) -> None:
    """Members of containers that never start read canceled, at every depth."""
    leaf = await client.asign("echo")
    inner = await client.achain([leaf, "note"])
    skipped = await client.aswarm([inner])
    chain = await client.achain(["fail", skipped])
    with pytest.raises(FlowFailedError):
        await chain.aio_run(timeout=10)
    for signature in (skipped, inner, leaf):
        await signature.arefresh()
        assert signature.task_status is Status.CANCELED


async def test_open_swarm_as_a_member_waits_for_its_close(stage: Stage, client: Mageflow) -> None:
    """A swarm that is a member stays open until `close_swarm`, and takes members while its container runs."""
    inner = await client.aswarm(["double"])
    chain = await client.achain([inner, "total"])
    handle = await chain.aio_run_no_wait({"n": 1})
    await eventually(lambda: len(stage.got("double")) == 1, "the first member ran")
    await inner.aio_run_in_swarm("double", {"n": 10})
    assert await handle.status() is Status.ACTIVE
    await inner.close_swarm()
    assert await handle.result(10) == 22


async def test_running_a_member_opens_every_swarm_above(client: Mageflow) -> None:
    """A member that is run in a swarm in a swarm opens both, for itself."""
    inner = await client.aswarm(["echo"])
    outer = await client.aswarm([inner, "echo"])
    [member] = await inner.aio_run_in_swarm("double", {"n": 2})
    assert await member.handle.result(10) == 4
    assert [await item.handle.status() for item in (inner, outer)] == [Status.ACTIVE, Status.ACTIVE]
    await inner.close_swarm()
    await outer.close_swarm()
    assert await outer.aio_run({"x": 1}, timeout=10) == [[{"x": 1}, 4], {"x": 1}]


async def test_container_callbacks_of_containers(stage: Stage, client: Mageflow) -> None:
    """A swarm of chains as the callback of a chain of swarms: everything below is copied and runs."""
    template = await client.aswarm(
        [await client.achain(["add", await client.asign("add", by=10)]) for _ in range(3)],
        success_callbacks=[await client.achain(["total", "note"])],
    )
    first = await client.aswarm([await client.asign("double", n=1)], is_swarm_closed=True)
    chain = await client.achain([first, "total"], success=template)
    assert await chain.aio_run(timeout=10) == 2
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 39}], "the callbacks ran to the end")
    assert await (await chain.aduplicate()).aio_run(timeout=10) == 2
    await eventually(lambda: len(stage.got("note")) == 2, "the copy fired the same callback again")


async def test_deep_nesting_runs(client: Mageflow) -> None:
    """Sixty levels of containers run, and the result comes up through all of them."""
    signature: object = await client.asign("double", n=1)
    for level in range(60):
        if level % 2:
            signature = await client.achain([signature, "echo"])
        else:
            signature = await client.aswarm([signature], is_swarm_closed=True)
    top = await client.aswarm([signature], is_swarm_closed=True)
    result: Any = await top.aio_run(timeout=20)
    for level in reversed(range(61)):
        result = result["mageflow_results"] if level % 2 else result[0]
    assert result == 2


async def test_task_fans_out_and_waits_for_nothing(stage: Stage, client: Mageflow) -> None:
    """A running task creates and starts flows of its own, by the functions of its client."""

    async def fan_out(count: int) -> str:
        swarm = await client.aswarm(["double"] * count, success_callbacks=["total"], is_swarm_closed=True)
        handle = await swarm.aio_run_no_wait({"n": 2})
        return handle.key

    client.task(name="fan-out")(fan_out)
    key = await (await client.asign("fan-out", count=4)).aio_run(timeout=10)
    swarm = await client.load_signature(key)
    assert swarm is not None
    assert await swarm.handle.result(10) == [4, 4, 4, 4]
    await eventually(lambda: len(stage.got("total")) == 1, "its callback ran")
