"""Swarms that grow: adding before and while they run, opening, closing, limits."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel, ConfigDict

from mageflow import FlowHandle, Mageflow, Status, SwarmConfig, SwarmSignature, TaskSignature
from mageflow.errors import (
    IllegalMoveError,
    SwarmIsCanceledError,
    SwarmIsClosedError,
    TaskAndMsgsDontMatchForSwarmError,
    TooManyTasksError,
)
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Stage


class _OnlyData(BaseModel):
    model_config = ConfigDict(extra="ignore")
    data: str


async def test_added_member_starts_by_its_own_run(stage: Stage, client: Mageflow) -> None:
    """`add_task` returns the member; it starts by its own run, with the swarm's message below its own."""
    swarm = await client.aswarm(["note"])
    await swarm.aio_run_no_wait({"swarm_data": 1, "data": "swarm"})
    await eventually(lambda: len(stage.got("note")) == 1, "the first member ran")
    member = await swarm.add_task(await client.asign("echo", bound=2))
    assert isinstance(member, TaskSignature)
    assert await member.handle.status() is Status.PENDING
    await member.aio_run_no_wait({"data": "own"})
    expected = {"swarm_data": 1, "data": "own", "bound": 2}
    assert await member.handle.result(10) == expected
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == [None, expected]


async def test_member_model_may_ignore_what_the_swarm_adds(stage: Stage, client: Mageflow) -> None:
    """A model that ignores extra fields takes the merged message."""

    async def only_data(msg: _OnlyData) -> str:
        return msg.data

    task = client.task(name="only-data")(only_data)
    swarm = await client.aswarm()
    await swarm.aio_run_no_wait({"swarm_data": "x"})
    member = await swarm.add_task(task)
    await member.aio_run_no_wait(_OnlyData(data="mine"))
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == ["mine"]


async def test_member_added_to_a_running_swarm_waits_for_its_run(stage: Stage, client: Mageflow) -> None:
    """What was added while the swarm runs does not start until its own run or the close."""
    swarm = await client.aswarm(["note"])
    await swarm.aio_run_no_wait()
    waiting = await swarm.add_task("echo")
    started = await swarm.add_task("double")
    await started.aio_run_no_wait({"n": 1})
    await started.handle.result(10)
    assert await waiting.handle.status() is Status.PENDING
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == [None, {}, 2]


async def test_close_gives_waiting_members_the_message_of_the_swarm(client: Mageflow) -> None:
    """On a running swarm a close makes every registered member ready with the swarm's message."""
    swarm = await client.aswarm()
    await swarm.aio_run_no_wait({"a": 1})
    for _ in range(3):
        await swarm.add_task("echo")
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == [{"a": 1}] * 3


async def test_close_before_the_run_starts_nothing(client: Mageflow) -> None:
    """A close of a swarm that was not run leaves it pending; its run starts and ends it."""
    swarm = await client.aswarm(["echo"])
    await swarm.close_swarm()
    await swarm.close_swarm()
    await swarm.arefresh()
    assert (swarm.task_status, swarm.is_swarm_closed) == (Status.PENDING, True)
    assert await swarm.aio_run({"a": 1}, timeout=10) == [{"a": 1}]


async def test_open_swarm_does_not_end(stage: Stage, client: Mageflow) -> None:
    """A swarm whose members have all ended stays active until it is closed."""
    swarm = await client.aswarm(["note"], success_callbacks=["echo"])
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.got("note")) == 1, "the member ran")
    [member] = await swarm.members()
    signature = await client.load_signature(member)
    assert signature is not None
    await signature.handle.result(10)
    assert (await handle.status(), await swarm.is_swarm_done()) == (Status.ACTIVE, False)
    await swarm.close_swarm()
    assert await handle.result(10) == [None]
    await eventually(lambda: stage.got("echo") == [{"mageflow_results": [None]}], "the callback ran")


async def test_run_in_swarm_adds_and_starts_in_one_step(client: Mageflow) -> None:
    """`aio_run_in_swarm` takes one task or a list and one message, and returns the members."""
    swarm = await client.aswarm(shared=1)
    await swarm.aio_run_no_wait({"swarm": 2})
    [one] = await swarm.aio_run_in_swarm("echo", {"own": 3})
    template = await client.asign("echo", bound=4)
    many = await swarm.aio_run_in_swarm(await template.aduplicate_many(5), {"own": 5})
    assert (len(many), len({member.key for member in many})) == (5, 5)
    assert await one.handle.result(10) == {"shared": 1, "swarm": 2, "own": 3}
    assert await many[4].handle.result(10) == {"shared": 1, "swarm": 2, "own": 5, "bound": 4}
    await swarm.close_swarm()
    assert len(await swarm.handle.result(10)) == 6


async def test_run_tasks_in_swarm_gives_each_its_message(client: Mageflow) -> None:
    """`aio_run_tasks_in_swarm` starts each task with its own message, in order."""
    swarm = await client.aswarm()
    await swarm.aio_run_no_wait()
    members = await swarm.aio_run_tasks_in_swarm(["double"] * 150, [{"n": number} for number in range(150)])
    assert len(members) == 150
    await swarm.close_swarm()
    assert await swarm.handle.result(15) == [number * 2 for number in range(150)]


async def test_numbers_of_tasks_and_messages_must_agree(idle: Stage) -> None:
    """Different lengths raise `TaskAndMsgsDontMatchForSwarmError`, and nothing is added."""
    swarm = await idle.client.aswarm()
    with pytest.raises(TaskAndMsgsDontMatchForSwarmError, match="2 tasks and 1 messages"):
        await swarm.aio_run_tasks_in_swarm(["echo", "echo"], [{}])
    await swarm.arefresh()
    assert swarm.tasks == ()


async def test_adding_an_empty_batch_adds_nothing(idle: Stage) -> None:
    """An empty list of tasks is no error and no start."""
    swarm = await idle.client.aswarm()
    assert await swarm.aio_run_in_swarm([], {"a": 1}) == []
    assert await swarm.handle.status() is Status.PENDING


async def test_adding_works_before_the_swarm_runs(client: Mageflow) -> None:
    """Members that were added before the run start with it."""
    swarm = await client.aswarm(["double"])
    added = await swarm.add_task("double")
    await swarm.close_swarm()
    assert await swarm.aio_run({"n": 2}, timeout=10) == [4, 4]
    await added.arefresh()
    assert added.task_status is Status.DONE


async def test_running_a_member_opens_a_pending_swarm_for_it(stage: Stage, client: Mageflow) -> None:
    """The member starts and the swarm is active; the others wait for the swarm's run, which is no second start."""
    swarm = await client.aswarm(["echo", "echo"])
    member = await swarm.add_task("note")
    await member.aio_run_no_wait({"own": 1})
    await member.handle.result(10)
    assert await swarm.handle.status() is Status.ACTIVE
    progress = await swarm.progress()
    assert (progress.done, progress.pending) == (1, 2)
    handle = await swarm.aio_run_no_wait({"a": 1})
    await swarm.close_swarm()
    assert await handle.result(10) == [{"a": 1}, {"a": 1}, None]
    assert stage.got("note") == [{"own": 1}]


async def test_close_of_a_swarm_opened_by_a_member_starts_no_other(stage: Stage, client: Mageflow) -> None:
    """A close between the member's run and the swarm's makes no other member ready; the swarm's run does."""
    swarm = await client.aswarm(["echo"])
    [member] = await swarm.aio_run_in_swarm("note")
    await swarm.close_swarm()
    await member.handle.result(10)
    assert (await swarm.handle.status(), stage.got("echo")) == (Status.ACTIVE, [])
    assert await swarm.aio_run({"a": 1}, timeout=10) == [{"a": 1}, None]


async def test_swarm_opened_by_members_ends_when_all_have_ended(client: Mageflow) -> None:
    """A closed swarm whose members were all started by themselves is done without a run of its own."""
    swarm = await client.aswarm()
    await swarm.aio_run_in_swarm("double", {"n": 4})
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == [8]


async def test_adding_to_a_closed_swarm_is_refused(client: Mageflow) -> None:
    """A closed swarm, running or done, takes no member; the error names it."""
    swarm = await client.aswarm(["wait"], is_swarm_closed=True)
    calls = (swarm.add_task, swarm.aio_run_in_swarm)
    for call in calls:
        with pytest.raises(SwarmIsClosedError, match=swarm.key):
            await call("echo")
    done = await client.aswarm(["echo"], is_swarm_closed=True)
    await done.aio_run(timeout=10)
    with pytest.raises(SwarmIsClosedError):
        await done.add_task("echo")
    assert (len(await swarm.members()), len(await done.members())) == (1, 1)


async def test_adding_to_a_failed_swarm_is_refused(client: Mageflow) -> None:
    """A swarm that failed takes no member, though nobody closed it."""
    swarm = await client.aswarm(["fail"], config=SwarmConfig(stop_after_n_failures=1))
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: _has_status(handle, Status.FAILED), "the swarm failed")
    with pytest.raises(SwarmIsClosedError):
        await swarm.add_task("echo")


async def test_adding_to_a_canceled_swarm_is_refused(client: Mageflow) -> None:
    """A swarm that was canceled, here as a step that never started, takes no member and cannot be run."""
    swarm = await client.aswarm(["echo"])
    handle = await (await client.achain(["fail", swarm])).aio_run_no_wait()
    await eventually(lambda: _has_status(handle, Status.FAILED), "the chain failed")
    for call in (swarm.add_task, swarm.aio_run_in_swarm):
        with pytest.raises(SwarmIsCanceledError, match=swarm.key):
            await call("echo")
    with pytest.raises(IllegalMoveError, match=swarm.key):
        await swarm.aio_run_no_wait()


async def _has_status(handle: FlowHandle[object], status: Status) -> bool:
    return await handle.status() is status


async def test_batch_past_the_limit_is_refused_whole(idle: Stage) -> None:
    """Past `max_task_allowed` nothing of the batch is added, and its signatures stay free."""
    swarm = await idle.client.aswarm(["echo"], config=SwarmConfig(max_task_allowed=3))
    member = await idle.client.asign("echo")
    with pytest.raises(TooManyTasksError, match="3"):
        await swarm.aio_run_in_swarm([member, "echo", "echo"])
    await swarm.arefresh()
    assert (len(swarm.tasks), swarm.is_swarm_closed, swarm.task_status) == (1, False, Status.PENDING)
    await swarm.add_task(member)
    with pytest.raises(TooManyTasksError):
        await idle.client.aswarm(["echo"] * 4, config=SwarmConfig(max_task_allowed=3))


async def test_reaching_the_limit_closes_the_swarm(client: Mageflow) -> None:
    """The member that reaches `max_task_allowed` closes the swarm, unless `close_on_max_task=False`."""
    swarm = await client.aswarm(["double"], config=SwarmConfig(max_task_allowed=2))
    handle = await swarm.aio_run_no_wait({"n": 1})
    await swarm.add_task("double")
    assert await handle.result(10) == [2, 2]
    kept = await client.aswarm(config=SwarmConfig(max_task_allowed=1))
    await kept.add_task("echo", close_on_max_task=False)
    await kept.arefresh()
    assert kept.is_swarm_closed is False
    with pytest.raises(TooManyTasksError):
        await kept.add_task("echo")
    full = await client.aswarm(["echo"], config=SwarmConfig(max_task_allowed=1))
    assert full.is_swarm_closed is True


async def test_adding_context_closes_at_its_exit(client: Mageflow) -> None:
    """`async with swarm.adding():` closes the swarm, also when its block raises."""
    swarm = await client.aswarm()
    handle = await swarm.aio_run_no_wait({"n": 3})
    async with swarm.adding() as adding:
        await adding.add_task("double")
        await swarm.add_task("double")
    assert await handle.result(10) == [6, 6]
    other = await client.aswarm()
    with pytest.raises(LookupError):
        async with other.adding():
            raise LookupError
    await other.arefresh()
    assert other.is_swarm_closed is True


async def test_members_are_added_from_any_process_and_task(stage: Stage, make_client: MakeClient) -> None:
    """Another client, and a member while it runs, add to the same swarm."""

    async def grow(depth: int, key: str) -> int:
        found = await stage.client.load_signature(key)
        assert isinstance(found, SwarmSignature)
        if depth:
            await found.aio_run_in_swarm(["grow", "grow"], {"depth": depth - 1, "key": key})
        return depth

    stage.client.task(name="grow")(grow)
    swarm = await stage.client.aswarm(task_name="growing")
    other = make_client()
    try:
        elsewhere = await other.load_signature(swarm.key)
        assert isinstance(elsewhere, SwarmSignature)
        await elsewhere.aio_run_in_swarm("grow", {"depth": 3, "key": swarm.key})
        await eventually(lambda: _total(swarm, 15), "every member added its own")
        await elsewhere.close_swarm()
        assert sorted(await swarm.handle.result(10)) == [0] * 8 + [1] * 4 + [2] * 2 + [3]
    finally:
        await other.shutdown()


async def _total(swarm: SwarmSignature[object, object], count: int) -> bool:
    progress = await swarm.progress()
    return (progress.total, progress.done) == (count, count)


async def test_concurrent_adds_lose_nothing(client: Mageflow) -> None:
    """Members that many callers add at the same time all run, once each."""
    swarm = await client.aswarm(config=SwarmConfig(max_concurrency=5))
    await swarm.aio_run_no_wait()
    await asyncio.gather(*(swarm.aio_run_in_swarm("double", {"n": number}) for number in range(60)))
    await swarm.close_swarm()
    assert sorted(await swarm.handle.result(10)) == [number * 2 for number in range(60)]
