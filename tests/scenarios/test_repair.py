"""Repair finds what must not be there, mends it when asked, and leaves a healthy namespace alone."""

from __future__ import annotations

from mageflow import Finding
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Server
from tests.scenarios.test_steering import Steered, steered

__all__ = ["steered"]


async def kinds(steered: Steered) -> dict[str, str]:
    """Return what repair finds, by the thing that it names."""
    found: tuple[Finding, ...] = (await steered.client.repair()).findings
    return {finding.on: finding.kind for finding in found}


async def test_healthy_namespace_is_left_alone(steered: Steered, server: Server) -> None:
    """With flows that wait on slots, gates, marks, runs and starts nothing is found and nothing changes."""
    client = steered.client
    swarm = await client.aswarm([await client.asign("gated", n=n) for n in range(3)])
    await swarm.aio_run_no_wait()
    chain = await client.achain(["plain", "plain"])
    await chain.suspend()
    await chain.aio_run_no_wait()
    await eventually(lambda: len(steered.began) == 3, "the members run")
    await (await client._session.open()).dispatcher.idle()
    before = server.dump_of_flows()
    report = await client.repair(apply=True)
    assert (report.findings, report.repaired) == ((), 0)
    after = server.dump_of_flows()
    assert {key for key in after if "}:runs" not in key} == {key for key in before if "}:runs" not in key}
    await chain.resume()
    steered.open.set()
    await swarm.close_swarm()
    assert await swarm.handle.result(10) == [0, 1, 2]


async def test_planted_stalls_are_found_and_mended(steered: Steered, server: Server) -> None:
    """A task without its row, a swarm that nobody fills and a key without its record are found, and go on or go."""
    client = steered.client
    task = await client.asign("plain", n=1)
    await task.suspend()
    await task.aio_run_no_wait()
    swarm = await client.aswarm([await client.asign("plain", n=2)], is_swarm_closed=True)
    await swarm.suspend()
    await swarm.aio_run_no_wait()
    for signature in (task, swarm):
        record = server.keys.record(signature.id)
        server.connection.hdel(record, "mk", "hd")
        server.connection.zrem(server.keys.outbox, f"!u:{signature.id}")
        server.connection.delete(f"{server.keys.everything[:-1]}h:{signature.id}")
    orphan = f"{server.keys.everything[:-1]}m:01ZZZZZZZZZZZZZZZZZZZZZZZZ"
    server.connection.rpush(orphan, "x")
    found = await kinds(steered)
    assert found[task.key] == "stalled"
    assert found[swarm.key] == "stalled"
    assert found["m:01ZZZZZZZZZZZZZZZZZZZZZZZZ"] == "orphan"
    report = await client.repair(apply=True)
    assert report.repaired == len(report.findings)
    assert await task.handle.result(10) == 1
    assert await swarm.handle.result(10) == [2]
    assert not server.connection.exists(orphan)
    assert await kinds(steered) == {}


async def test_a_worker_finds_what_waits_on_nothing(make_client: MakeClient, server: Server) -> None:
    """A worker looks through the records by itself: a task without its row goes on, and the log says so."""
    steered = Steered(make_client())
    client = steered.client
    task = await client.asign("plain", n=1)
    handle = await task.aio_run_no_wait()
    server.connection.zrem(server.keys.outbox, task.id)
    server.connection.delete(f"{server.keys.queue}:plain")
    async with client.worker():
        assert await handle.result(10) == 1
    await client.shutdown()
