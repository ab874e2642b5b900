"""The beat of a worker: which of its runs are stopped."""

from __future__ import annotations

from typing import cast

from mageflow import Mageflow, Status
from tests.eventually import eventually
from tests.scenarios.support import Server, Stage


async def test_word_about_an_older_run_stops_no_newer_one(stage: Stage, client: Mageflow, server: Server) -> None:
    """A beat that still tells of an attempt that is over stops nothing: the next attempt runs by then."""
    signature = await client.asign("wait", gate="gate")
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: stage.started == ["gate"], "it runs")
    engine = client._engine
    assert engine is not None
    beat = engine.runner._beat
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


def _newest_beat(server: Server) -> float:
    """Return when a worker was heard of last, in seconds."""
    beats = cast("list[tuple[bytes, float]]", server.connection.zrange(server.keys.workers, 0, -1, withscores=True))
    return max((score for _, score in beats), default=0.0) / 1000
