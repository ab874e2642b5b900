"""A task that returns a signature is replaced by it: the flow goes on with that signature's result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import pytest_asyncio

from mageflow import ErrorValue, Mageflow, Signature, Status, SwarmConfig
from mageflow.errors import FlowCanceledError, FlowFailedError, TooManyReplacementsError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Message, Server, Stage


@pytest.fixture
def planning(client: Mageflow) -> Mageflow:
    """A client with tasks that plan the rest of their flow."""

    @client.task(name="countdown")
    async def countdown(n: int) -> Any:
        return "lift-off" if n == 0 else await client.asign("countdown", n=n - 1)

    @client.task(name="fan-out")
    async def fan_out(n: int) -> Any:
        found = [await client.asign("double", n=number) for number in range(n)]
        return await client.achain([await client.aswarm(found, is_swarm_closed=True), "total"])

    @client.task(name="plain-plan")
    def plain_plan(key: str) -> Any:
        return _Returned(key)

    @client.task(name="number", retries=2)
    async def number(msg: Message) -> int:
        planned: Any = await client.asign(msg["task"], n=2)
        return planned

    @client.task(name="number-or-plan", retries=2)
    async def number_or_plan(msg: Message) -> int | Signature[Any, int]:
        return await client.asign(msg["task"], n=2)

    @client.task(name="given")
    async def given(key: str) -> Any:
        return await client.load_signature(key)

    @client.task(name="gate-plan")
    async def gate_plan(gate: str) -> Any:
        return await client.asign("wait", gate=gate)

    return client


class _Returned:
    """Something that only looks like a signature."""

    def __init__(self, key: str) -> None:
        self.key = key


async def test_a_loop_ends_with_the_last_result(planning: Mageflow, server: Server) -> None:
    """A task that returns itself until it is done: one result, and the loop does not deepen."""
    task = await planning.asign("countdown", n=20)
    assert await task.aio_run(timeout=20) == "lift-off"
    records = cast("Iterator[bytes]", server.connection.scan_iter(match=server.keys.record("*")))
    containers = {
        above.decode() for key in records if (above := cast("bytes | None", server.connection.hget(key, "c")))
    }
    assert containers == {task.id}


@pytest.mark.parametrize("place", ["root", "chain", "swarm", "callback", "chooser"])
async def test_replacement_in_any_place(planning: Mageflow, stage: Stage, place: str) -> None:
    """As root, step, member, callback and chooser the flow goes on with the replacement's result."""
    plan = await planning.asign("fan-out", n=4)
    if place == "root":
        assert await plan.aio_run(timeout=10) == 12
    elif place == "chain":
        add = await planning.asign("add", by=1)
        assert await (await planning.achain([plan, add])).aio_run(timeout=10) == 13
    elif place == "swarm":
        swarm = await planning.aswarm([plan, "fan-out"], config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
        assert await swarm.aio_run({"n": 3}, timeout=10) == [12, 6]
    elif place == "callback":
        task = await planning.asign("note", success_callbacks=[plan])
        await task.aio_run(timeout=10)
        await eventually(lambda: len(stage.got("total")) == 1, "the fired plan is carried out")
    else:
        switch = await planning.aswitch(plan, {12: "echo"})
        assert await switch.aio_run(timeout=10) == {"n": 4}


@pytest.mark.parametrize("name", ["number", "number-or-plan"])
async def test_result_is_checked_against_the_annotation_of_the_task(
    planning: Mageflow, stage: Stage, name: str
) -> None:
    """A replacement's result that fits the annotation is the task's; one that does not fails it for good."""
    fits = await planning.asign(name, task="double")
    assert await fits.aio_run(timeout=10) == 4
    task = await planning.asign(name, task="echo", error_callbacks=["on_error"])
    with pytest.raises(FlowFailedError, match="InvalidMessageError"):
        await task.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("on_error")) == 1, "its error callback fires once")
    assert len(stage.got("echo")) == 1


async def test_what_a_checked_task_created_stays(planning: Mageflow, server: Server) -> None:
    """The run that checks the result asks for nothing: what the task created for later is not taken back for that."""
    kept: list[str] = []

    @planning.task(name="plan-and-keep")
    async def plan_and_keep() -> int:
        kept.append((await planning.asign("echo")).key)
        plan: Any = await planning.asign("double", n=2)
        return plan

    assert await (await planning.asign("plan-and-keep")).aio_run(timeout=10) == 4

    def worked_off() -> bool:
        rows = cast("list[bytes]", server.connection.zrange(server.keys.outbox, 0, -1))
        return not any(row.startswith(b"!n:") for row in rows)

    await eventually(worked_off, "what earlier runs created in vain is taken back")
    signature = await planning.load_signature(kept[0])
    assert signature is not None
    assert signature.task_status is Status.PENDING


async def test_failed_and_canceled_replacements_fail_the_task(planning: Mageflow, stage: Stage) -> None:
    """The task fails with the error of what replaced it; a canceled one counts as failed."""
    task = await planning.asign("given", key=(await planning.asign("fail", text="no")).key)
    with pytest.raises(FlowFailedError, match="BrokenError"):
        await task.aio_run(timeout=10)
    waiting = await planning.asign("wait", gate="g")
    task = await planning.asign("given", key=waiting.key, error_callbacks=["on_error"])
    handle = await task.aio_run_no_wait()
    await eventually(lambda: stage.started == ["g"], "it runs")
    assert await handle.status() is Status.ACTIVE
    wait = await planning.why(task.key)
    assert wait is not None
    assert (wait.kind, wait.on) == ("member", waiting.key)
    await waiting.cancel()
    with pytest.raises(FlowFailedError, match="Canceled"):
        await handle.result(10)
    await eventually(lambda: len(stage.got("on_error")) == 1, "its error callback fires")
    error: ErrorValue = stage.got("on_error")[0].error
    assert (error.type, error.key) == ("Canceled", task.key)


async def test_one_already_started_is_waited_for(planning: Mageflow, stage: Stage) -> None:
    """Running or ended, the signature runs once and the task has its result."""
    running = await planning.asign("wait", gate="later", success_callbacks=["note"])
    await running.aio_run_no_wait()
    await eventually(lambda: stage.started == ["later"], "it runs")
    handle = await (await planning.asign("given", key=running.key)).aio_run_no_wait()
    done = await planning.asign("double", n=4)
    assert await done.aio_run(timeout=10) == 8
    assert await (await planning.asign("given", key=done.key)).aio_run(timeout=10) == 8
    stage.open("later")
    assert await handle.result(10) == "later"
    assert stage.started == ["later"]
    await eventually(lambda: len(stage.got("note")) == 1, "its own callback fires")


async def test_a_swarm_that_a_member_opened_starts_with_all_its_members(planning: Mageflow, stage: Stage) -> None:
    """To return a swarm starts it, also where one of its members was started by itself before."""
    members = [await planning.asign("wait", gate="early"), await planning.asign("double", n=2)]
    swarm = await planning.aswarm(members, is_swarm_closed=True)
    await members[0].aio_run_no_wait()
    await eventually(lambda: stage.started == ["early"], "a member runs")
    stage.open("early")
    assert await (await planning.asign("given", key=swarm.key)).aio_run(timeout=10) == ["early", 4]


async def test_what_cannot_replace_a_task(planning: Mageflow, stage: Stage) -> None:
    """A member, the task itself, what is gone: the task fails by name, and the signature stays as it is."""
    member = await planning.asign("echo")
    chain = await planning.achain([member, "echo"])
    own = await planning.asign("given")
    gone = await planning.asign("echo")
    await gone.remove()
    for key, error in ((member.key, "AlreadyInContainerError"), (own.key, "CycleError")):
        task = own if key == own.key else await planning.asign("given")
        with pytest.raises(FlowFailedError) as caught:
            await task.aio_run({"key": key}, timeout=10)
        assert caught.value.type == error
    await chain.remove()
    assert await (await planning.asign("given", key=gone.key)).aio_run(timeout=10) is None


@pytest_asyncio.fixture
async def limited(make_client: MakeClient) -> Any:
    """A client whose tasks are replaced three times at the most."""
    client = make_client(max_replacements=3)

    @client.task(name="again")
    async def again(n: int) -> Any:
        return n if n == 0 else await client.asign("again", n=n - 1)

    async with client.worker():
        yield client


async def test_replacements_are_limited(limited: Mageflow) -> None:
    """Beyond `max_replacements` the task fails with `TooManyReplacementsError`."""
    assert await (await limited.asign("again", n=3)).aio_run(timeout=10) == 0
    with pytest.raises(FlowFailedError) as caught:
        await (await limited.asign("again", n=4)).aio_run(timeout=10)
    assert caught.value.type == TooManyReplacementsError.__name__


@pytest.mark.parametrize("verb", ["suspend", "interrupt", "cancel"])
async def test_steering_reaches_the_replacement(planning: Mageflow, stage: Stage, verb: str) -> None:
    """A mark on the container of a replaced task holds, stops or ends what replaced it, and its slot is given back."""
    plan: Signature[Any, Any] = await planning.asign("gate-plan", gate="gate")
    config = SwarmConfig(max_concurrency=1)
    swarm = await planning.aswarm([plan, await planning.asign("double", n=1)], config=config, is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: stage.started == ["gate"], "the replacement runs")
    await getattr(plan, verb)()
    if verb != "suspend":
        await eventually(lambda: not stage.running, "it is stopped")
    else:
        stage.open("gate")
    await eventually(lambda: len(stage.got("double")) == 1, "the other member has the slot")
    if verb == "cancel":
        assert await handle.result(10) == [2]
        return
    stage.open("gate")
    await plan.resume()
    assert await handle.result(10) == ["gate", 2]


async def test_cancel_of_the_flow_ends_the_replacement(planning: Mageflow, stage: Stage, server: Server) -> None:
    """Nothing of a canceled flow stays active, an open swarm as a replacement neither."""
    swarm = await planning.aswarm()
    handle = await (await planning.asign("given", key=swarm.key)).aio_run_no_wait()

    async def waits() -> bool:
        wait = await planning.why(handle.key)
        return wait is not None and wait.on == swarm.key

    await eventually(waits, "the task waits on the swarm")
    await planning.cancel(handle.key)
    with pytest.raises(FlowCanceledError):
        await handle.result(10)
    await swarm.arefresh()
    assert swarm.task_status is Status.CANCELED
    root = server.keys.record(handle.key.rpartition(":")[2])
    await eventually(lambda: server.connection.hget(root, "lv") == b"0", "nothing keeps the flow alive")


async def test_loop_by_callback_leaves_nothing(make_client: MakeClient, server: Server) -> None:
    """A task that returns a signature with itself as callback runs again, and is gone with its flow in the end."""
    stage = Stage(make_client(ttl={"done_ttl": 0.3}))
    client, rounds = stage.client, list[int]()

    async def again() -> Any:
        rounds.append(len(rounds))
        return await client.asign("echo", success_callbacks=[first]) if len(rounds) < 3 else None

    client.task(name="again")(again)
    async with client.worker():
        first = await client.asign("again")
        await first.aio_run(timeout=10)
        await eventually(lambda: len(rounds) == 3, "it ran three times")
        await eventually(lambda: server.flow_keys() == [], "nothing is left", found=server.flow_keys)
