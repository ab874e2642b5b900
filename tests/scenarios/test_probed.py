"""What a task manager says of runs that were offered and have not started moves their flow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mageflow import FlowHandle, Signature, Status
from tests.scenarios.support import Stage


async def _offered(stage: Stage) -> tuple[Signature[Any, Any], Signature[Any, Any], FlowHandle[Any]]:
    """Return the two steps of a chain whose first was offered, and its handle."""
    first, second = await stage.client.asign("double", n=1), await stage.client.asign("add", by=5)
    return first, second, await (await stage.client.achain([first, second])).aio_run_no_wait()


async def _tell(
    stage: Stage, signature: Signature[Any, Any], letter: str, said: object = "", dispatch: int = 1
) -> None:
    engine = await stage.client._host.open()
    finding = (signature.key.rpartition(":")[2], dispatch, letter, json.dumps(said).encode())
    await engine.dispatch((await engine.store.probed([finding], 3.0)).ready)


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
