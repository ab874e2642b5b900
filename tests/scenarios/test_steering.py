"""Steering: suspend, resume, interrupt, cancel and remove, at any place of a flow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mageflow import Mageflow, Status, SwarmConfig
from mageflow.errors import FlowCanceledError, FlowFailedError, IllegalMoveError, TaskAlreadyRunningError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Server, Stage


class Steered:
    """A client with a worker, tasks that wait at a gate, and what they did."""

    def __init__(self, client: Mageflow) -> None:
        self.client = client
        self.open = asyncio.Event()
        self.began: list[int] = []
        self.ended: list[int] = []
        self.stopped: list[int] = []
        self.noted: list[str] = []
        client.task(name="gated")(self._gated)
        client.task(name="plain")(self._plain)
        client.task(name="note")(self._note)

    async def _gated(self, n: int) -> int:
        self.began.append(n)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.stopped.append(n)
            raise
        self.ended.append(n)
        return n

    async def _plain(self, n: int = 0) -> int:
        self.ended.append(n)
        return n

    async def _note(self, what: str) -> None:
        self.noted.append(what)


@pytest_asyncio.fixture
async def steered(make_client: MakeClient) -> AsyncIterator[Steered]:
    """A stage with a worker."""
    steered = Steered(make_client())
    async with steered.client.worker():
        yield steered
        steered.open.set()


async def test_suspended_chain_goes_on_where_it_stopped(steered: Steered) -> None:
    """What runs in a suspended chain ends and counts; the next member starts at resume, and nothing runs twice."""
    client = steered.client
    chain = await client.achain([await client.asign("gated", n=1), await client.asign("plain", n=2)])
    handle = await chain.aio_run_no_wait()
    await eventually(lambda: steered.began == [1], "the first member runs")
    assert await chain.suspend() is Status.SUSPENDED
    assert await chain.suspend() is Status.SUSPENDED
    steered.open.set()
    await eventually(lambda: steered.ended == [1], "the first member ends")
    first, second = await _members(client, chain.key)
    await eventually(lambda: _has_status(client, first, Status.DONE), "its end is recorded")
    assert await _has_status(client, second, Status.SUSPENDED)
    await chain.resume()
    assert await handle.result(10) == 2
    assert steered.ended == [1, 2]


async def test_interrupted_swarm_runs_again_at_resume(steered: Steered) -> None:
    """Interrupt stops coroutines within a second and fires no callbacks; resume runs them again with their message."""
    client = steered.client
    note = await client.asign("note", what="done")
    members = [await client.asign("gated", n=n) for n in range(5)]
    swarm = await client.aswarm(members, success_callbacks=[note], config=SwarmConfig(max_concurrency=2))
    await swarm.close_swarm()
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: len(steered.began) == 2, "two members run")
    assert await swarm.interrupt() is Status.INTERRUPTED
    await eventually(lambda: sorted(steered.stopped) == [0, 1], "both are stopped", deadline=5)
    steered.open.set()
    assert steered.ended == []
    await swarm.resume()
    assert await handle.result(15) == [0, 1, 2, 3, 4]
    assert sorted(steered.ended) == [0, 1, 2, 3, 4]
    await eventually(lambda: steered.noted == ["done"], "the callback fired once")


async def test_suspended_member_gives_its_slot_back(steered: Steered) -> None:
    """A suspended member of a swarm with one slot lets the others run, and comes first when it is resumed."""
    client = steered.client
    inner = await client.achain([await client.asign("gated", n=1), await client.asign("plain", n=2)])
    others = [await client.asign("plain", n=n) for n in (3, 4)]
    swarm = await client.aswarm([inner, *others], config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: steered.began == [1], "the chain runs")
    await inner.suspend()
    steered.open.set()
    await eventually(lambda: steered.ended == [1, 3, 4], "the others run")
    await inner.resume()
    assert await handle.result(10) == [2, 3, 4]
    assert steered.ended == [1, 3, 4, 2]


async def test_cancel_stops_everything_below_and_fires_nothing(steered: Steered) -> None:
    """A canceled flow reads canceled, its running code is stopped, its callbacks never fire."""
    client = steered.client
    note = await client.asign("note", what="never")
    inner = await client.aswarm([await client.asign("gated", n=n) for n in range(3)], is_swarm_closed=True)
    chain = await client.achain([inner, "plain"], success=[note], error=[note])
    handle = await chain.aio_run_no_wait()
    await eventually(lambda: len(steered.began) == 3, "the members run")
    assert await chain.cancel() is Status.CANCELED
    with pytest.raises(FlowCanceledError):
        await handle.result(5)
    await eventually(lambda: sorted(steered.stopped) == [0, 1, 2], "running code is stopped", deadline=5)
    for key in await _members(client, inner.key):
        await eventually(lambda key=key: _has_status(client, key, Status.CANCELED), "members read canceled")
    assert steered.noted == []
    assert await chain.cancel() is Status.CANCELED
    assert await chain.resume() is Status.CANCELED


async def test_canceled_member_counts_as_failed(steered: Steered) -> None:
    """A chain whose running member is canceled fails normally, with an error of type Canceled."""
    client = steered.client
    first = await client.asign("gated", n=1)
    handle = await (await client.achain([first, "plain"])).aio_run_no_wait()
    await eventually(lambda: steered.began == [1], "the first member runs")
    await first.cancel()
    with pytest.raises(FlowFailedError) as failure:
        await handle.result(5)
    assert failure.value.type == "Canceled"


async def test_pending_root_is_held_until_resume(steered: Steered) -> None:
    """Running a suspended pending signature is recorded; it starts at resume."""
    client = steered.client
    signature = await client.asign("plain", n=7)
    assert await client.pause(signature.key) is Status.SUSPENDED
    handle = await signature.aio_run_no_wait()
    assert await handle.status() is Status.SUSPENDED
    assert steered.ended == []
    await client.resume(signature.key)
    assert await handle.result(10) == 7


async def test_refused_moves(steered: Steered) -> None:
    """A running task cannot be suspended, a member cannot be removed; both say why."""
    client = steered.client
    lone = await client.asign("gated", n=1)
    await lone.aio_run_no_wait()
    await eventually(lambda: steered.began == [1], "the task runs")
    with pytest.raises(TaskAlreadyRunningError):
        await lone.suspend()
    member = await client.asign("plain")
    await client.aswarm([member])
    with pytest.raises(IllegalMoveError, match="part of a flow"):
        await member.remove()


async def test_removed_flow_leaves_nothing(steered: Steered) -> None:
    """A removed flow is stopped and gone."""
    client = steered.client
    swarm = await client.aswarm([await client.asign("gated", n=n) for n in range(3)])
    await swarm.aio_run_no_wait()
    await eventually(lambda: len(steered.began) == 3, "the members run")
    await swarm.remove()
    await eventually(lambda: len(steered.stopped) == 3, "running code is stopped", deadline=5)
    await eventually(lambda: _gone(client, swarm.key), "the record is gone")


async def _members(client: Mageflow, key: str) -> list[str]:
    store = await client._session.store()
    found = await store.command("LRANGE", store.keys.members(key.rpartition(":")[2]), 0, -1)
    return [client._session.key(member.decode()) for member in found]


async def _has_status(client: Mageflow, key: str, status: Status) -> bool:
    signature = await client.load_signature(key)
    return signature is not None and signature.task_status is status


async def _gone(client: Mageflow, key: str) -> bool:
    return await client.load_signature(key) is None


async def test_suspended_container_keeps_its_slot_while_something_of_it_runs(stage: Stage, client: Mageflow) -> None:
    """A suspended swarm with two running members gives its slot back at the end of the last of them."""
    parts = [await client.asign("wait", gate=gate) for gate in ("first", "second")]
    inner = await client.aswarm(parts, is_swarm_closed=True)
    other = await client.asign("wait", gate="other")
    outer = await client.aswarm([inner, other], config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    handle = await outer.aio_run_no_wait()
    await eventually(lambda: sorted(stage.started) == ["first", "second"], "both members of the inner swarm run")
    await inner.suspend()
    stage.open("first")
    assert await parts[0].handle.result(10) == "first"
    waits = await client.why(other.key)
    stage.open("second", "other")
    assert waits is not None
    assert waits.kind == "slot"
    await eventually(lambda: "other" in stage.started, "the slot was given back")
    await inner.resume()
    assert await handle.result(10) == [["first", "second"], "other"]


async def test_held_swarm_with_an_outcome_gives_its_slot_back(steered: Steered) -> None:
    """A suspended swarm that fails while a member still runs frees its slot with that member's end, not at resume."""
    client = steered.client
    bad = await client.asign("gated", n=1)
    config = SwarmConfig(stop_after_n_failures=1)
    inner = await client.aswarm([bad, await client.asign("gated", n=2)], config=config, is_swarm_closed=True)
    outer = await client.aswarm([inner, "plain"], config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    handle = await outer.aio_run_no_wait()
    await eventually(lambda: len(steered.began) == 2, "both members of the inner swarm run")
    await inner.suspend()
    await bad.cancel()
    steered.open.set()
    await eventually(lambda: 0 in steered.ended, "the member that waited for the slot runs")
    assert await _has_status(client, inner.key, Status.SUSPENDED)
    await inner.resume()
    assert await handle.result(10) == [0]


async def test_open_swarm_with_suspended_members_is_not_abandoned(make_client: MakeClient, server: Server) -> None:
    """A member that can go on at resume keeps its open swarm from being given up."""
    steered = Steered(make_client(ttl={"active_ttl": 1}))
    client = steered.client
    async with client.worker():
        member = await client.asign("plain", n=1)
        swarm = await client.aswarm([member])
        await member.suspend()
        handle = await swarm.aio_run_no_wait()
        timer = f"!a:{swarm.id}"
        first = server.connection.zscore(server.keys.outbox, timer)
        assert first is not None
        await eventually(
            lambda: (server.connection.zscore(server.keys.outbox, timer) or 0) > first, "the timer runs on"
        )
        assert await _has_status(client, swarm.key, Status.ACTIVE)
        await member.resume()
        await swarm.close_swarm()
        assert await handle.result(10) == [1]
