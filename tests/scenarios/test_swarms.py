"""Swarms: members side by side, bounded, their results in order, what a swarm shows of itself."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import Mageflow, Status, SwarmConfig
from mageflow.errors import AlreadyStartedError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Stage


async def test_results_are_in_the_order_of_the_members(stage: Stage, client: Mageflow) -> None:
    """The list of results follows the order in which members were added, whatever order they end in."""
    gates = ["a", "b", "c", "d"]
    swarm = await client.aswarm([await client.asign("wait", gate=gate) for gate in gates], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    for gate in reversed(gates):
        stage.open(gate)
        await eventually(lambda gate=gate: gate not in stage.running, "the member ended")
    assert await handle.result(10) == gates


async def test_success_callbacks_get_the_list(stage: Stage, client: Mageflow) -> None:
    """Success callbacks, in both spellings, start once, with the list of results."""
    for keyword in ("success_callbacks", "success"):
        members = [await client.asign("double", n=n) for n in range(5)]
        given: dict[str, Any] = {keyword: ["total", "note"]}
        swarm = await client.aswarm(members, task_name="s", is_swarm_closed=True, **given)
        await swarm.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("total")) == len(stage.got("note")) == 2, "the callbacks ran")
    assert [message.values for message in stage.got("total")] == [[0, 2, 4, 6, 8]] * 2


async def test_members_may_be_given_in_every_form(stage: Stage, client: Mageflow) -> None:
    """Members are signatures, keys, names, task objects or functions."""
    given = [await client.asign("double", n=1), (await client.asign("double", n=2)).key, "double", stage.double]
    swarm = await client.aswarm(given, is_swarm_closed=True)
    assert await swarm.aio_run({"n": 5}, timeout=10) == [2, 4, 10, 10]


async def test_lone_name_is_one_member(stage: Stage, client: Mageflow) -> None:
    """A name in place of a list of members is one member, and not its letters."""
    swarm = await client.aswarm("double", is_swarm_closed=True, n=4)
    assert await swarm.aio_run(timeout=10) == [8]


async def test_settings_may_be_a_mapping(idle: Stage) -> None:
    """Settings given as a mapping are checked like a `SwarmConfig`."""
    settings: Any = {"max_concurrency": 2}
    misspelt: Any = {"max_concurency": 2}
    swarm = await idle.client.aswarm(["double"], config=settings)
    assert swarm.config == SwarmConfig(max_concurrency=2)
    with pytest.raises(ValueError, match="max_concurency"):
        await idle.client.aswarm(["double"], config=misspelt)


async def test_message_and_arguments_of_a_swarm_go_to_all_members(stage: Stage, client: Mageflow) -> None:
    """Every member gets the swarm's message and its arguments; what a member has bound itself wins."""
    swarm = await client.aswarm(["echo", await client.asign("echo", y=9)], is_swarm_closed=True, x=1, y=2)
    assert await swarm.aio_run({"z": 3}, timeout=10) == [{"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 9, "z": 3}]


async def test_at_most_so_many_members_run_at_any_moment(stage: Stage, client: Mageflow) -> None:
    """`max_concurrency` bounds what runs; each end lets the next one start."""
    gates = [f"g{number}" for number in range(9)]
    swarm = await client.aswarm(
        [await client.asign("wait", gate=gate) for gate in gates],
        config=SwarmConfig(max_concurrency=3),
        is_swarm_closed=True,
    )
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 3, "three members run")
    progress = await swarm.progress()
    assert (progress.active, progress.pending) == (3, 6)
    while len(stage.started) < len(gates):
        first = next(iter(stage.running))
        expected = len(stage.started) + 1
        stage.open(first)
        await eventually(lambda expected=expected: len(stage.started) >= expected, "the next member started")
    stage.open(*gates)
    assert await handle.result(10) == gates
    assert stage.peak == 3
    assert sorted(stage.started) == gates


async def test_bound_holds_over_all_workers_together(stage: Stage, make_client: MakeClient) -> None:
    """Two workers run no more members of a swarm than the bound allows, and both of them run some."""
    other = Stage(make_client())
    gates = [f"g{number}" for number in range(40)]
    members = [await stage.client.asign("wait", gate=gate) for gate in gates]
    swarm = await stage.client.aswarm(members, config=SwarmConfig(max_concurrency=4), is_swarm_closed=True)
    async with other.client.worker():
        handle = await swarm.aio_run_no_wait()
        while len(stage.started) + len(other.started) < len(gates):
            await eventually(lambda: bool(stage.running | other.running), "some member runs")
            assert len(stage.running | other.running) <= 4
            running = stage.running | other.running
            stage.open(*running)
            other.open(*running)
            await eventually(lambda running=running: not running & (stage.running | other.running), "they ended")
        stage.open(*gates)
        other.open(*gates)
        assert await handle.result(10) == gates
    assert stage.started
    assert other.started


async def test_unbounded_swarm_runs_all_members_at_once(stage: Stage, client: Mageflow) -> None:
    """`max_concurrency=None` is no bound."""
    gates = [f"g{number}" for number in range(60)]
    members = [await client.asign("wait", gate=gate) for gate in gates]
    swarm = await client.aswarm(members, config=SwarmConfig(max_concurrency=None), is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 60, "all members run")
    stage.open(*gates)
    assert await handle.result(10) == gates


async def test_thirty_members_run_by_default(stage: Stage, client: Mageflow) -> None:
    """Without a configuration 30 members run at a time, there is no failure budget and no limit of members."""
    gates = [f"g{number}" for number in range(40)]
    swarm = await client.aswarm([await client.asign("wait", gate=gate) for gate in gates], is_swarm_closed=True)
    assert swarm.config == SwarmConfig(max_concurrency=30, stop_after_n_failures=None, max_task_allowed=None)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 30, "thirty members run")
    stage.open(*gates)
    assert await handle.result(10) == gates
    assert stage.peak == 30


async def test_failed_members_are_left_out(stage: Stage, client: Mageflow) -> None:
    """Without a budget failures never fail the swarm: it succeeds with the results of those that succeeded."""
    members = [await client.asign("wait", gate=f"g{n}", fails=n % 2 == 0) for n in range(6)]
    stage.open(*[f"g{n}" for n in range(6)])
    swarm = await client.aswarm(members, success_callbacks=["note"], error_callbacks=["on_error"], is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == ["g1", "g3", "g5"]
    await eventually(lambda: stage.got("note") == [{"mageflow_results": ["g1", "g3", "g5"]}], "the callback ran")
    assert stage.got("on_error") == []


async def test_swarm_of_failures_alone_succeeds_with_nothing(client: Mageflow) -> None:
    """Where every member failed and there is no budget, the result is the empty list."""
    swarm = await client.aswarm(["fail", "fail"], is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == []


async def test_empty_closed_swarm_succeeds(stage: Stage, client: Mageflow) -> None:
    """A closed swarm without members that is run succeeds with the empty list and fires its callbacks."""
    swarm = await client.aswarm(success_callbacks=["note"], is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == []
    await eventually(lambda: stage.got("note") == [{"mageflow_results": []}], "the callback ran")


async def test_swarm_runs_once(client: Mageflow) -> None:
    """A second run of a swarm raises `AlreadyStartedError`, while it runs and afterwards."""
    swarm = await client.aswarm(["echo"])
    handle = await swarm.aio_run_no_wait()
    with pytest.raises(AlreadyStartedError, match=r"aduplicate\(\)"):
        await swarm.aio_run_no_wait()
    await swarm.close_swarm()
    await handle.result(10)
    with pytest.raises(AlreadyStartedError, match=swarm.key):
        await swarm.aio_run_no_wait()


async def test_return_value_goes_to_all_members(stage: Stage, client: Mageflow) -> None:
    """A return value that enters a swarm as a step of a chain reaches each member; the list goes on."""
    swarm = await client.aswarm(["add", await client.asign("add", by=2), "echo"], is_swarm_closed=True)
    chain = await client.achain([await client.asign("double", n=5), swarm, "note"])
    await chain.aio_run(timeout=10)
    assert stage.got("note") == [{"mageflow_results": [11, 12, {"mageflow_results": 10}]}]


async def test_snapshots_list_members_by_state(stage: Stage, client: Mageflow) -> None:
    """`tasks`, `finished_tasks`, ... are tuples of keys as of the last load."""
    members = [
        await client.asign("double", n=1),
        await client.asign("fail"),
        await client.asign("wait", gate="a"),
        await client.asign("echo"),
    ]
    swarm = await client.aswarm(members, config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    keys = tuple(member.key for member in members)
    assert (swarm.tasks, swarm.tasks_left_to_run) == (keys, keys)
    assert (swarm.finished_tasks, swarm.failed_tasks, swarm.current_running_tasks) == ((), (), ())
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: stage.running == {"a"}, "the third member runs")
    assert swarm.finished_tasks == ()
    await swarm.arefresh()
    assert swarm.tasks == keys
    assert (swarm.finished_tasks, swarm.failed_tasks) == ((keys[0],), (keys[1],))
    assert (swarm.current_running_tasks, swarm.tasks_left_to_run) == ((keys[2],), (keys[3],))
    assert await swarm.is_swarm_done() is False
    stage.open("a")
    await handle.result(10)
    assert await swarm.is_swarm_done() is True


async def test_members_are_listed_in_pages(idle: Stage) -> None:
    """Snapshots hold the first 1000 keys; `members` pages through all of them, and by status."""
    swarm = await idle.client.aswarm(["echo"] * 1203)
    assert len(swarm.tasks) == 1000
    await swarm.arefresh()
    assert len(swarm.tasks) == 1000
    pages = [await swarm.members(after=after, limit=500) for after in (0, 500, 1000, 1500)]
    assert [len(page) for page in pages] == [500, 500, 203, 0]
    assert (pages[0] + pages[1]) == swarm.tasks
    assert len({key for page in pages for key in page}) == 1203
    assert len(await swarm.members()) == 1000
    assert await swarm.members(Status.DONE) == ()
    assert await swarm.members("pending", after=1200) == pages[2][200:]


async def test_progress_counts_the_members(stage: Stage, client: Mageflow) -> None:
    """`progress` tells totals by state, the rate and the time that is left."""
    gates = ["a", "b", "c"]
    members = [await client.asign("wait", gate=gate, fails=gate == "b") for gate in gates]
    swarm = await client.aswarm([*members, "echo"], config=SwarmConfig(max_concurrency=3))
    before = await swarm.progress()
    assert (before.total, before.pending, before.active, before.seconds_left) == (4, 4, 0, None)
    await swarm.close_swarm()
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 3, "three members run")
    stage.open("a", "b")

    async def two_left() -> bool:
        progress = await swarm.progress()
        return (progress.done, progress.failed, progress.active) == (2, 1, 1)

    await eventually(two_left, "two are done, one failed, one runs")
    middle = await swarm.progress()
    assert (middle.total, middle.pending, middle.canceled) == (4, 0, 0)
    assert middle.per_second > 0
    assert middle.seconds_left is not None
    assert middle.seconds_left > 0
    stage.open("c")
    await handle.result(10)
    after = await swarm.progress()
    assert (after.total, after.pending, after.active, after.done, after.failed) == (4, 0, 0, 3, 1)
    assert after.seconds_left == 0


async def test_large_swarm_is_created_whole_and_runs(stage: Stage, client: Mageflow) -> None:
    """A swarm of more members than one script writes is visible only complete, runs each member once and in order."""
    members = [await client.asign("double", n=number) for number in range(5)]
    swarm = await client.aswarm([*members, *["double"] * 595], is_swarm_closed=True)
    assert len(swarm.tasks) == 600
    assert await swarm.aio_run({"n": 7}, timeout=20) == [0, 2, 4, 6, 8, *[14] * 595]
    assert len(stage.got("double")) == 600
