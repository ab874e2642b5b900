"""How long records are kept: nothing of a flow that goes on expires, nothing of one that is over stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from mageflow import Mageflow, Status, SwarmConfig, SwarmSignature
from mageflow.errors import FlowFailedError, SignatureNotFoundError, SwarmAbandonedError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Server, Stage

SHORT = 0.3


async def _build(stage: Stage) -> SwarmSignature[Any, Any]:
    """Create a flow with everything in it: containers in each other, callbacks with callbacks."""
    client = stage.client
    callback = await client.achain(["total", "note"], success=await client.aswarm(["echo", "echo"]))
    failing = await client.asign("fail", error_callbacks=[await client.asign("on_error", success_callbacks=["note"])])
    inner = await client.aswarm([await client.asign("double", n=n) for n in range(3)], success_callbacks=[callback])
    await inner.close_swarm()
    return await client.aswarm([await client.achain([inner, "total"]), failing], is_swarm_closed=True)


async def test_finished_flow_leaves_no_key(make_client: MakeClient, server: Server) -> None:
    """`done_ttl` after the end of root and callbacks no key of the flow is left: members, templates, copies."""
    stage = Stage(make_client(ttl={"done_ttl": SHORT, "active_ttl": SHORT}))
    async with stage.client.worker():
        swarm = await _build(stage)
        assert await swarm.aio_run(timeout=10) == [6]
        await eventually(lambda: stage.counts()["echo"] == 2, "the last callbacks ran")
        await eventually(lambda: server.flow_keys() == [], "no key of the flow is left")


async def test_failed_and_canceled_flows_leave_no_key(make_client: MakeClient, server: Server) -> None:
    """A flow that failed, with members that were canceled, goes as well."""
    stage = Stage(make_client(ttl={"done_ttl": SHORT, "active_ttl": SHORT}))
    async with stage.client.worker():
        skipped = await stage.client.aswarm([await stage.client.achain(["echo", "echo"])], success_callbacks=["note"])
        chain = await stage.client.achain(["fail", skipped], error="on_error")
        with pytest.raises(FlowFailedError):
            await chain.aio_run(timeout=10)
        await eventually(lambda: server.flow_keys() == [], "no key of the flow is left")


async def test_flow_that_was_never_started_goes(make_client: MakeClient, server: Server) -> None:
    """`active_ttl` after its creation an unstarted flow is gone with all that it named, and cannot be started."""
    stage = Stage(make_client(ttl={"active_ttl": SHORT}))
    async with stage.client.worker():
        swarm = await _build(stage)
        await eventually(lambda: server.flow_keys() == [], "no key of the flow is left")
        with pytest.raises(SignatureNotFoundError):
            await swarm.aio_run_no_wait()


async def test_finished_flow_is_kept_for_its_time(make_client: MakeClient) -> None:
    """Until `done_ttl` is over a finished flow can be read; its keys carry that time to live."""
    stage = Stage(make_client(ttl={"done_ttl": timedelta(minutes=1)}))
    async with stage.client.worker():
        signature = await stage.client.asign("echo")
        await signature.aio_run({"a": 1}, timeout=10)
        loaded = await stage.client.load_signature(signature.key)
        assert loaded is not None
        assert (loaded.task_status, await loaded.handle.result(1)) == (Status.DONE, {"a": 1})


async def test_default_lifetimes(client: Mageflow, server: Server) -> None:
    """By default a finished flow is kept five minutes, an unstarted one a day."""
    assert (client.config.ttl.done_ttl, client.config.ttl.active_ttl) == (300, 86_400)
    signature = await client.asign("echo")
    await signature.aio_run(timeout=10)
    await eventually(lambda: 290 < server.time_to_live(signature.key) <= 300, "the record has its time to live")


async def test_lifetimes_by_kind_of_the_root(make_client: MakeClient, server: Server) -> None:
    """A lifetime given for a kind counts for flows whose root is of that kind; what is not given is as for all."""
    by_kind = {"task": {"active_ttl": 60}, "chain": {"done_ttl": 2000}, "swarm": {"done_ttl": timedelta(seconds=3000)}}
    stage = Stage(make_client(ttl={"done_ttl": 1000, **by_kind}))
    async with stage.client.worker():
        task = await stage.client.asign("echo")
        members = [await stage.client.asign("echo") for _ in range(2)]
        chain = await stage.client.achain(members)
        swarm = await stage.client.aswarm(["echo"], is_swarm_closed=True)
        for signature, seconds in ((task, 1000), (chain, 2000), (swarm, 3000)):
            await signature.aio_run(timeout=10)
            await eventually(_lives(server, signature.key, seconds), f"the record of {signature} lives its time")
        await eventually(_lives(server, members[1].key, 2000), "a member lives as long as its root")


def _lives(server: Server, key: str, seconds: int) -> Callable[[], bool]:
    return lambda: seconds - 10 < server.time_to_live(key) <= seconds


async def test_nothing_of_a_running_flow_expires(make_client: MakeClient, server: Server) -> None:
    """However long it takes, no key of a started flow has a time to live, and its templates are kept."""
    stage = Stage(make_client(ttl={"done_ttl": SHORT, "active_ttl": SHORT}))
    async with stage.client.worker():
        template = await stage.client.asign("note")
        members = [await stage.client.asign("wait", gate="a"), await stage.client.asign("echo")]
        chain = await stage.client.achain(members, success=[template])
        other = await stage.client.asign("echo")
        handle = await chain.aio_run_no_wait()
        await eventually(lambda: _gone(stage.client, [other.key]), "what was created at the same time expired")
        assert {server.time_to_live(key) for key in (chain.key, template.key, *(item.key for item in members))} == {-1}
        stage.open("a")
        assert await handle.result(10) == {"mageflow_results": "a"}
        await eventually(lambda: len(stage.got("note")) == 1, "the callback ran")
        await eventually(lambda: server.flow_keys() == [], "no key of the flow is left")


async def _gone(client: Mageflow, keys: Sequence[str]) -> bool:
    return all([await client.load_signature(key) is None for key in keys])


async def test_template_goes_after_the_last_record_that_names_it(make_client: MakeClient, server: Server) -> None:
    """A template outlives its own `active_ttl` while an unstarted signature names it, then it goes as well."""
    stage = Stage(make_client(ttl={"active_ttl": SHORT, "done_ttl": SHORT, "chain": {"active_ttl": 3}}))
    async with stage.client.worker():
        template = await stage.client.asign("note")
        short = await stage.client.asign("echo", success_callbacks=[template])
        chain = await stage.client.achain(["echo", "echo"], success=[template])
        await eventually(lambda: _gone(stage.client, [short.key]), "the first holder expired")
        assert await stage.client.load_signature(template.key) is not None
        await chain.aio_run(timeout=10)
        await eventually(lambda: len(stage.got("note")) == 1, "the template fired")
        await eventually(lambda: server.flow_keys() == [], "the template went with its last holder")


async def test_open_swarm_in_which_nothing_happens_is_abandoned(make_client: MakeClient, server: Server) -> None:
    """An open swarm with nothing running, ready or added for `active_ttl` fails with `SwarmAbandonedError`."""
    stage = Stage(make_client(ttl={"active_ttl": SHORT, "done_ttl": 60}))
    async with stage.client.worker():
        swarm = await stage.client.aswarm(["double"], error_callbacks=["on_error"], success_callbacks=["note"])
        handle = await swarm.aio_run_no_wait({"n": 1})
        with pytest.raises(FlowFailedError) as caught:
            await handle.result(10)
        assert (caught.value.type, caught.value.key) == (SwarmAbandonedError.__name__, swarm.key)
        await eventually(lambda: len(stage.got("on_error")) == 1, "its error callback ran")
        assert stage.got("note") == []


async def test_open_swarm_in_which_something_runs_is_not_abandoned(make_client: MakeClient) -> None:
    """As long as a member runs the time of an open swarm does not begin."""
    stage = Stage(make_client(ttl={"active_ttl": SHORT}))
    async with stage.client.worker():
        member = await stage.client.asign("wait", gate="a")
        swarm = await stage.client.aswarm([member], config=SwarmConfig(max_concurrency=1))
        handle = await swarm.aio_run_no_wait()
        forgotten = await stage.client.aswarm(["double"])
        lost = await forgotten.aio_run_no_wait({"n": 1})
        with pytest.raises(FlowFailedError):
            await lost.result(10)
        assert await handle.status() is Status.ACTIVE
        stage.open("a")
        await swarm.close_swarm()
        assert await handle.result(10) == ["a"]


async def test_unused_copies_and_members_expire(make_client: MakeClient, server: Server) -> None:
    """Copies that nobody runs, and swarms that grew without being run, go after `active_ttl`."""
    stage = Stage(make_client(ttl={"active_ttl": SHORT}))
    async with stage.client.worker():
        swarm = await stage.client.aswarm(["echo"], success_callbacks=["note"])
        await swarm.add_task(await stage.client.achain(["echo", "echo"], error=["on_error"]))
        await swarm.aduplicate_many(2)
        await eventually(lambda: server.flow_keys() == [], "nothing is left")


async def test_large_flow_leaves_no_key(make_client: MakeClient, server: Server) -> None:
    """A flow of more records than one script expires leaves none of them."""
    stage = Stage(make_client(ttl={"done_ttl": SHORT}))
    async with stage.client.worker():
        swarm = await stage.client.aswarm(["note"] * 300, is_swarm_closed=True)
        assert len(await swarm.aio_run(timeout=15)) == 300
        await eventually(lambda: server.flow_keys() == [], "no key of the flow is left")
