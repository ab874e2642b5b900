"""What a task manager says of runs that were offered and have not started moves their flow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mageflow import FlowHandle, Signature, Status, SwarmConfig
from tests.scenarios.support import Stage


async def _offered(stage: Stage) -> tuple[Signature[Any, Any], Signature[Any, Any], FlowHandle[Any]]:
    """Return the two steps of a chain whose first was offered, and its handle."""
    first, second = await stage.client.asign("double", n=1), await stage.client.asign("add", by=5)
    return first, second, await (await stage.client.achain([first, second])).aio_run_no_wait()


async def _tell(
    stage: Stage, signature: Signature[Any, Any], letter: str, said: object = "", dispatch: int = 1
) -> list[list[Any]]:
    """Tell what became of a run; return those that are to be canceled."""
    engine = await stage.client._host.open()
    finding = (signature.key.rpartition(":")[2], dispatch, letter, json.dumps(said).encode())
    answer = await engine.store.probed([finding], 3.0)
    await engine.dispatch(answer.ready)
    return list(answer.extra)


async def _field(stage: Stage, signature: Signature[Any, Any], name: str, value: object = None) -> bytes | None:
    """Return a field of a record, or set it."""
    store = (await stage.client._host.open()).store
    key = store.keys.record(signature.id)
    return await store.command("HGET", key, name) if value is None else await store.command("HSET", key, name, value)


async def test_run_whose_worker_never_began_it_is_dispatched_anew(idle: Stage) -> None:
    """Code that has not begun 20 s after a worker was seen to have its run begins by a dispatch of its own."""
    first, _, handle = await _offered(idle)
    assert await _tell(idle, first, "r") == []
    seen = await _field(idle, first, "sn")
    assert seen is not None
    dispatch, since = seen.split()
    assert await _tell(idle, first, "r") == []
    assert (await _field(idle, first, "sn"), await _field(idle, first, "d")) == (seen, b"1")
    await _field(idle, first, "sn", f"{int(dispatch)} {int(since) - 20_000}")
    assert await _tell(idle, first, "r") == [[first.id.encode(), 1, b""]]
    assert await _field(idle, first, "d") == b"2"
    assert await _tell(idle, first, "r") == []
    assert await first.handle.status() is Status.PENDING
    async with idle.client.worker():
        assert await handle.result(10) == 7


async def test_run_that_is_lost_too_often_fails(idle: Stage) -> None:
    """Each loss counts as that of a worker; beyond `crash_limit` the task fails with the error that is told."""
    first, _, handle = await _offered(idle)
    for dispatch in range(1, idle.client.config.crash_limit + 1):
        assert len(await _tell(idle, first, "x", dispatch=dispatch)) == 1
        assert await first.handle.status() is Status.PENDING
    error = {"type": "RunFailedError", "message": "lost", "traceback": ""}
    await _tell(idle, first, "x", error, idle.client.config.crash_limit + 1)
    assert await first.handle.status() is Status.FAILED
    assert await handle.status() is Status.FAILED


async def test_run_that_succeeded_there_ends_its_signature(idle: Stage) -> None:
    """Its result is the task's, and the next step gets it."""
    first, _, handle = await _offered(idle)
    await _tell(idle, first, "d", 7)
    assert await first.handle.result(1) == 7
    async with idle.client.worker():
        assert await handle.result(10) == 12
    assert idle.got("double") == []


@pytest.mark.parametrize(("letter", "status"), [("f", Status.FAILED), ("c", Status.CANCELED)])
async def test_run_that_failed_or_was_canceled_there_ends_its_signature(
    idle: Stage, letter: str, status: Status
) -> None:
    """The chain fails with it, and the next step never starts."""
    first, second, handle = await _offered(idle)
    await _tell(idle, first, letter, {"type": "RunFailedError", "message": "no", "traceback": ""})
    assert await first.handle.status() is status
    assert await handle.status() is Status.FAILED
    assert await second.handle.status() is Status.CANCELED


@pytest.mark.parametrize(("letter", "dispatch"), [("l", 1), ("g", 1), ("d", 2), ("f", 0)])
async def test_run_that_waits_or_is_gone_or_is_another_changes_no_status(
    idle: Stage, letter: str, dispatch: int
) -> None:
    """It runs as it would have."""
    first, _, handle = await _offered(idle)
    await _tell(idle, first, letter, 7, dispatch)
    assert await first.handle.status() is Status.PENDING
    async with idle.client.worker():
        assert await handle.result(10) == 7


async def test_questions_are_rationed(idle: Stage) -> None:
    """Of many rows that wait a few are asked for at once, and those that a worker was seen to have in any case."""
    members = [await idle.client.asign("double", n=n) for n in range(80)]
    swarm = await idle.client.aswarm(members, config=SwarmConfig(max_concurrency=None))
    await swarm.aio_run_no_wait()
    engine = await idle.client._host.open()
    await engine.dispatcher.idle()
    store, ids = engine.store, [member.id for member in members]
    await store.offered([(identifier, 1, f"run of {identifier}") for identifier in ids], 3.0)
    for identifier in ids[78:]:
        await store.command("HSET", store.keys.record(identifier), "sn", "1 1")
    await store.command("ZADD", store.keys.outbox, *(value for identifier in ids for value in (0, identifier)))
    asked: set[str] = set()
    for _ in range(3):
        answer = await store.sweep(drained=(), start_timeout=3.0, probes=True)
        asked |= {entry[0].decode() for entry in answer.extra[2]}
    assert set(ids[78:]) <= asked
    assert 20 <= len(asked) <= 2 + 20 + 10
