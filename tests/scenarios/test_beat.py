"""The beat of a worker: which of its runs are stopped, and when a run counts as lost."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from mageflow import Mageflow, Status
from mageflow.engine import Engine
from tests.eventually import eventually
from tests.scenarios.support import Server, Stage


async def test_word_about_an_older_run_stops_no_newer_one(stage: Stage, client: Mageflow, server: Server) -> None:
    """A beat that still tells of an attempt that is over stops nothing: the next attempt runs by then."""
    signature = await client.asign("wait", gate="gate")
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: stage.started == ["gate"], "it runs")
    beat = _engine(client).runner._beat
    assert beat is not None
    identifier = server.id_of(signature.key)
    beat.add(identifier, 0)
    now = _newest_beat(server)
    await eventually(lambda: _newest_beat(server) > now + 1.2, "two beats told of the older run")
    beat.add(identifier, 1)
    assert await handle.status() is Status.ACTIVE
    stage.open("gate")
    assert await handle.result(10) == "gate"
    assert stage.started == ["gate"]


async def test_run_that_lapsed_is_stopped_where_the_next_one_began(
    stage: Stage, client: Mageflow, server: Server
) -> None:
    """A run that was given up while it lived is stopped, even where its successor runs in the same process."""
    stopped: list[int] = []
    gate = asyncio.Event()

    async def run(n: int) -> int:
        stage.started.append(str(n))
        try:
            await gate.wait()
        except asyncio.CancelledError:
            stopped.append(n)
            raise
        return n

    client.task(name="long")(run)
    signature = await client.asign("long", n=7)
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: stage.started == ["7"], "it runs")
    server.connection.set(server.keys.everything.replace("*", "gap"), 0)
    engine, store = _engine(client), await client._session.store()
    server.connection.zadd(server.keys.runs, {server.id_of(signature.key): 0}, xx=True)
    await engine.dispatch((await store.sweep(drained=(), start_timeout=3)).ready)
    await eventually(lambda: stage.started == ["7", "7"], "it runs again")
    try:
        await eventually(lambda: stopped == [7], "the run that lapsed is stopped")
    finally:
        gate.set()
    assert await handle.result(10) == 7


async def test_nothing_lapses_after_a_gap(idle: Stage, server: Server) -> None:
    """Where nobody was heard of, no run lapses for a lease: not even if a sweep comes before the first beat."""
    client, connection = idle.client, server.connection
    signature = await client.asign("wait", gate="gate")
    await signature.aio_run_no_wait()
    identifier, store = server.id_of(signature.key), await client._session.store()
    answer = await store.start(identifier, 1, 0, "a worker that is gone", "")
    assert answer.status == "run"
    names = {name: server.keys.everything.replace("*", name) for name in ("beat", "gap")}
    connection.zadd(server.keys.runs, {identifier: 0}, xx=True)
    now = int(time.time() * 1000)
    for beat, gap, lives in ((now - 3000, 0, True), (now, now, True), (now, 0, False)):
        connection.mset({names["beat"]: beat, names["gap"]: gap})
        await store.sweep(drained=(), start_timeout=3)
        assert (connection.zscore(server.keys.runs, identifier) is not None) is lives
    await signature.cancel()


def _engine(client: Mageflow) -> Engine:
    assert client._host.engine is not None
    return client._host.engine


def _newest_beat(server: Server) -> float:
    """Return when a worker was heard of last, in seconds."""
    beats = cast("list[tuple[bytes, float]]", server.connection.zrange(server.keys.workers, 0, -1, withscores=True))
    return max((score for _, score in beats), default=0.0) / 1000
