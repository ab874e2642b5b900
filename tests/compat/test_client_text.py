"""The calls of the text on the client, each as it is written there."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

import mageflow
from mageflow import AcceptParams, Mageflow, MageflowConfig, TaskSignature
from tests.compat.support import Desk


class MyModel(BaseModel):
    """A message."""

    value: int = 0


def test_client_takes_its_arguments_by_name(alone: None, redis_url: str, namespace: str) -> None:
    """`hatchet_client=`, `redis_client=`, `param_config=` are the names of the arguments."""
    client = Mageflow(
        hatchet_client=None,
        redis_client=redis_url,
        param_config=AcceptParams.NO_CTX,
        config=MageflowConfig(namespace=namespace),
    )
    assert client.config.param_config is AcceptParams.NO_CTX
    assert {AcceptParams.NO_CTX, AcceptParams.ALL, AcceptParams.CTX_ONLY} < set(AcceptParams)


async def test_with_ctx_below_the_task_decorator(hatchet: Mageflow, desk: Desk) -> None:
    """`@client.task` over `@client.with_ctx`: the task gets the manager's context though the client is `NO_CTX`."""
    client = hatchet
    seen: list[Any] = []

    @client.task(name="context-task")
    @client.with_ctx
    async def my_task(msg: MyModel, ctx: Any) -> dict[str, str]:
        seen.append((msg.value, ctx))
        return {"status": "completed"}

    async with desk.at_work():
        assert await (await mageflow.asign(my_task, value=3)).aio_run(timeout=10) == {"status": "completed"}
    assert seen[0][0] == 3
    assert type(seen[0][1]).__name__.endswith("Context")


async def test_with_signature_below_the_task_decorator(hatchet: Mageflow, desk: Desk) -> None:
    """`@client.task` over `@client.with_signature`: the task reads its own name and identifiers."""
    client = hatchet

    @client.task(name="signature-aware-task")
    @client.with_signature
    async def my_task(msg: MyModel, signature: TaskSignature[Any, Any]) -> dict[str, Any]:
        task_name = signature.task_name
        task_id = signature.task_identifiers
        return {"task_name": task_name, "task_id": task_id}

    async with desk.at_work():
        signed = await mageflow.asign(my_task, task_identifiers={"id": "4"})
        assert await signed.aio_run(MyModel(), timeout=10) == {
            "task_name": "signature-aware-task",
            "task_id": {"id": "4"},
        }


async def test_stagger_execution_below_the_task_decorator(
    hatchet: Mageflow, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """`@client.stagger_execution(wait_delta=...)` delays the task at random and logs the delay."""
    caplog.set_level(logging.INFO, "mageflow")
    client = hatchet

    @client.task(name="resource-intensive-task")
    @client.stagger_execution(wait_delta=timedelta(seconds=0.1))
    async def my_task(msg: MyModel) -> dict[str, str]:
        return {"status": "completed"}

    async with desk.at_work():
        assert await (await mageflow.asign(my_task)).aio_run(MyModel(), timeout=10) == {"status": "completed"}
    assert "random delay" in caplog.text
