"""Every unended signature tells the one thing that it waits on."""

from __future__ import annotations

import pytest

from mageflow import Mageflow, SwarmConfig
from mageflow.errors import SignatureNotFoundError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.test_steering import Steered, steered

__all__ = ["steered"]


async def kind_of(client: Mageflow, key: str) -> tuple[str, str] | None:
    """Return what a signature waits on, without the time."""
    wait = await client.why(key)
    assert wait is None or wait.since > 0
    return None if wait is None else (wait.kind, wait.on)


async def test_what_signatures_wait_on_before_anything_runs(make_client: MakeClient) -> None:
    """Without a worker: starts, a row, the member before, a slot, an open gate, a mark, a firing."""
    client = Steered(make_client()).client
    await client.startup()
    template = await client.asign("note", what="x")
    first, second = await client.asign("plain"), await client.asign("plain", success_callbacks=[template])
    chain = await client.achain([first, second])
    assert await kind_of(client, chain.key) == ("start", chain.key)
    assert await kind_of(client, first.key) == ("start", chain.key)
    assert await kind_of(client, template.key) == ("start", "firing")
    await chain.aio_run_no_wait()
    assert await kind_of(client, chain.key) == ("member", first.key)
    assert (await kind_of(client, first.key) or ("",))[0] == "row"
    assert await kind_of(client, second.key) == ("member", first.key)

    swarm = await client.aswarm(["plain", "plain"], config=SwarmConfig(max_concurrency=1))
    waiting, late = swarm.tasks[1], await swarm.add_task("plain")
    await swarm.aio_run_no_wait()
    later = await swarm.add_task("plain")
    assert await kind_of(client, waiting) == ("slot", swarm.key)
    assert await kind_of(client, late.key) == ("slot", swarm.key)
    assert await kind_of(client, later.key) == ("start", later.key)
    empty = await client.aswarm()
    await empty.aio_run_no_wait()
    assert await kind_of(client, empty.key) == ("open gate", empty.key)
    await swarm.suspend()
    assert await kind_of(client, later.key) == ("mark", swarm.key)
    for signature in (chain, swarm, empty):
        await signature.cancel()
        assert await kind_of(client, signature.key) is None
    with pytest.raises(SignatureNotFoundError):
        await client.why("mf:nowhere:1")
    await client.shutdown()


async def test_a_running_task_waits_on_its_worker(steered: Steered) -> None:
    """A run names the worker; a container the member that runs."""
    client = steered.client
    member = await client.asign("gated", n=1)
    swarm = await client.aswarm([member], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: steered.began == [1], "the member runs")
    assert await kind_of(client, swarm.key) == ("member", member.key)
    kind, worker = await kind_of(client, member.key) or ("", "")
    assert kind == "run"
    assert ":" in worker
    steered.open.set()
    assert await handle.result(10) == [1]
    assert await kind_of(client, member.key) is None
