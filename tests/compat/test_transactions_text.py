"""The calls of the text on transactions, each as it is written there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

import mageflow
from mageflow import SwarmSignature
from mageflow.errors import TaskAndMsgsDontMatchForSwarmError
from tests.compat.support import Desk


class TaskMessage(BaseModel):
    """The message of a task."""

    data: str


class SwarmMessage(BaseModel):
    """The message of a swarm."""

    swarm_data: str


async def test_changes_are_written_together(desk: Desk) -> None:
    """`signature.kwargs[...] = ...` inside `abounded_field()` is saved at its exit, with the signature itself."""
    desk.task("process-data")
    async with mageflow.abounded_field():
        signature = await mageflow.asign("process-data")
        signature.kwargs["input"] = "new-value"
        signature.kwargs["priority"] = "high"
        assert await _stored(desk, signature.key) is False
    assert await _stored(desk, signature.key) is True
    async with desk.at_work():
        await signature.aio_run(timeout=10)
    assert desk.got["process-data"] == [{"input": "new-value", "priority": "high"}]


async def _stored(desk: Desk, key: str) -> bool:
    """Return whether others see a signature."""
    store = await desk.client._session.store()
    return (await store.read([key.rpartition(":")[2]]))[0] is not None


async def test_several_signatures_in_one_block(desk: Desk) -> None:
    """Two signatures are described in one block, each with its own and the shared arguments."""
    desk.tasks("task-a", "task-b")
    async with mageflow.abounded_field():
        task_a = await mageflow.asign("task-a")
        task_b = await mageflow.asign("task-b")

        task_a.kwargs["shared_ref"] = "batch-123"
        task_b.kwargs["shared_ref"] = "batch-123"
        task_a.kwargs["role"] = "producer"
        task_b.kwargs["role"] = "consumer"
    async with desk.at_work():
        await task_a.aio_run(timeout=10)
        await task_b.aio_run(timeout=10)
    assert desk.got["task-a"] == [{"shared_ref": "batch-123", "role": "producer"}]
    assert desk.got["task-b"] == [{"shared_ref": "batch-123", "role": "consumer"}]


async def test_optional_change(desk: Desk) -> None:
    """`abounded_field(ignore_redis_error=True)` writes as the other does where nothing is wrong."""
    desk.task("process-data")
    signature = await mageflow.asign("process-data")
    async with mageflow.abounded_field(ignore_redis_error=True):
        signature.kwargs["optional_field"] = "value"
    loaded = await mageflow.load_signature(signature.key)
    assert loaded is not None
    assert dict(loaded.kwargs) == {"optional_field": "value"}


async def test_block_that_raises_leaves_nothing(desk: Desk) -> None:
    """All changes of a block fail together."""
    desk.task("process-data")
    before = made = await mageflow.asign("process-data")
    with pytest.raises(RuntimeError):
        async with mageflow.abounded_field():
            before.kwargs["input"] = "new-value"
            made = await mageflow.asign("process-data")
            raise RuntimeError
    assert made is not before
    assert await mageflow.load_signature(made.key) is None
    loaded = await mageflow.load_signature(before.key)
    assert loaded is not None
    assert dict(loaded.kwargs) == {}


async def _made(desk: Desk) -> SwarmSignature[Any, Any]:
    desk.task("new", result=lambda message: message["data"])
    return await mageflow.aswarm(tasks=[desk.task("initial")])


async def test_tasks_join_with_a_shared_message(desk: Desk) -> None:
    """`aio_run_in_swarm` adds and starts one task, or the copies that `aduplicate_many` made, with one message."""
    swarm = await _made(desk)
    async with desk.at_work():
        await swarm.aio_run_no_wait(SwarmMessage(swarm_data="shared"))
        new_task, template_task = await mageflow.asign("new"), await mageflow.asign("new")
        await swarm.aio_run_in_swarm(new_task, TaskMessage(data="hello"))
        tasks = await template_task.aduplicate_many(5)
        await swarm.aio_run_in_swarm(tasks, TaskMessage(data="hello"))
        await swarm.close_swarm()
        assert await swarm.handle.result(10) == [None, *["hello"] * 6]
    assert desk.got["new"] == [{"swarm_data": "shared", "data": "hello"}] * 6


async def test_tasks_join_with_a_message_each(desk: Desk) -> None:
    """`aio_run_tasks_in_swarm(tasks, messages)` gives each its own; lists of other lengths are refused."""
    swarm = await _made(desk)
    async with desk.at_work():
        await swarm.aio_run_no_wait(SwarmMessage(swarm_data="shared"))
        task_a, task_b, task_c = [await mageflow.asign("new") for _ in range(3)]
        tasks = [task_a, task_b, task_c]
        messages = [TaskMessage(data="for-a"), TaskMessage(data="for-b"), TaskMessage(data="for-c")]
        with pytest.raises(TaskAndMsgsDontMatchForSwarmError):
            await swarm.aio_run_tasks_in_swarm(tasks, messages[:2])
        await swarm.aio_run_tasks_in_swarm(tasks, messages)
        await swarm.close_swarm()
        assert await swarm.handle.result(10) == [None, "for-a", "for-b", "for-c"]
