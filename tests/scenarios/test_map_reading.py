"""Who reads a map later, or only a part of it."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import Mageflow, SwarmSignature, errors
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Message, Server, Stage, numbers


async def test_reader_that_is_slower_than_the_lifetime(make_client: MakeClient) -> None:
    """A stream that finds its map gone says why, and where it stands."""
    stage = Stage(make_client(ttl={"done_ttl": 0.5}))
    async with stage.client.worker():
        mapped = await stage.client.amap("double", numbers(120))
        await mapped.aio_run_no_wait()
        streams = [mapped.results(ordered=ordered) for ordered in (True, False)]
        for stream in streams:
            await anext(stream)
        await eventually(lambda: _is_gone(stage.client, mapped.key), "the map is gone")
        for stream in streams:
            with pytest.raises(errors.SignatureNotFoundError, match="done_ttl") as caught:
                _ = [value async for value in stream]
            assert caught.value.key == mapped.key
        with pytest.raises(errors.SignatureNotFoundError, match="the key is wrong, or its lifetime is over"):
            await anext(mapped.results())


async def _is_gone(client: Mageflow, key: str) -> bool:
    return await client.load_signature(key) is None


async def test_failed_items_are_found_without_a_look_at_the_others(stage: Stage, server: Server) -> None:
    """Of 500 items the three that failed are found in a few scripts, in order and page by page."""
    items: list[Message] = [{"gate": "x", "fails": n in {5, 300, 499}} for n in range(500)]
    stage.client.task(name="flaky")(_flaky)
    mapped = await stage.client.amap("flaky", items)
    await mapped.aio_run(timeout=20)
    failed = tuple(f"{mapped.key}#{index}" for index in (5, 300, 499))
    before = _scripts(server)
    assert await mapped.members("failed") == failed
    assert await mapped.members("failed", after=1, limit=1) == failed[1:2]
    assert await mapped.members("active") == ()
    assert _scripts(server) - before < 12
    assert len(await mapped.members("done")) == 497


def _scripts(server: Server) -> int:
    return int(server.connection.info("commandstats")["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize("is_map", [True, False])
async def test_results_are_whole_or_none(stage: Stage, server: Server, *, is_map: bool) -> None:
    """Records of a flow go one after the other; a list of results is not read in part when some are gone already."""
    flow: SwarmSignature[Any, list[Any]]
    if is_map:
        flow = await stage.client.amap("double", numbers(120))
    else:
        flow = await stage.client.aswarm(["double"] * 120, is_swarm_closed=True)
    await flow.aio_run({"n": 1}, timeout=10)
    [member] = await flow.members(after=3, limit=1)
    gone = server.keys.item_results(server.id_of(flow.key), 0) if is_map else server.keys.record(server.id_of(member))
    server.connection.delete(gone)
    with pytest.raises(errors.SignatureNotFoundError, match="its lifetime ended while"):
        await flow.handle.result(1)
    for ordered in (True, False) if is_map else ():
        with pytest.raises(errors.SignatureNotFoundError, match="done_ttl"):
            _ = [value async for value in flow.handle.results(ordered=ordered)]
    server.clear()


async def _flaky(msg: Message) -> str:
    if msg.get("fails"):
        raise BrokenError("broken")
    return msg["gate"]
