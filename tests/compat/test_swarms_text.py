"""The calls of the text on swarms, each as it is written there."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

import mageflow
from mageflow import FlowHandle, Mageflow, SwarmConfig
from mageflow.errors import FlowFailedError, SwarmIsClosedError
from tests.compat.support import Desk


class ProcessMessage(BaseModel):
    """A message that says nothing."""


async def test_swarm_takes_tasks_by_keyword(desk: Desk) -> None:
    """`mageflow.swarm(tasks=[...])` takes signatures, functions and names alike."""
    desk.tasks("two", "three", result="done")
    task1, task2, task3 = desk.task("one", result="done"), await mageflow.sign("two"), "three"
    swarm_signature = await mageflow.swarm(tasks=[task1, task2, task3])
    async with desk.at_work():
        handle = await swarm_signature.aio_run_no_wait()
        await swarm_signature.close_swarm()
        assert await handle.result(10) == ["done"] * 3


@pytest.mark.parametrize("where", ["module", "client"])
async def test_swarm_with_callbacks_and_concurrency(hatchet: Mageflow, desk: Desk, where: str) -> None:
    """Callbacks and `SwarmConfig(max_concurrency=2)`, on the module and on the client: never more than two run."""
    process = [desk.task(f"process-{n}", result=n, pause=0.5) for n in range(6)]
    completion_callback, error_handler = desk.tasks("complete", "handle")
    swarm_signature = await (mageflow if where == "module" else hatchet).swarm(
        tasks=process,
        success_callbacks=[completion_callback],
        error_callbacks=[error_handler],
        config=SwarmConfig(max_concurrency=2),
    )
    async with desk.at_work():
        await swarm_signature.aio_run_no_wait(ProcessMessage())
        await swarm_signature.close_swarm()
        await desk.until("complete")
    assert desk.got["complete"] == [{"mageflow_results": [0, 1, 2, 3, 4, 5]}]
    assert desk.peak == 2
    assert "handle" not in desk.got


async def test_task_added_to_a_running_swarm(desk: Desk) -> None:
    """`new_task = await swarm.add_task(...)`, then `new_task.aio_run_no_wait(message)`: it runs in the swarm."""
    initial_task, additional_task = desk.tasks("initial", "additional", result=sorted)
    swarm = await mageflow.swarm(tasks=[initial_task])
    async with desk.at_work():
        handle = await swarm.aio_run_no_wait({"a": 1})
        new_task = await swarm.add_task(additional_task)
        await new_task.aio_run_no_wait({"b": 2})
        await swarm.close_swarm()
        assert await handle.result(10) == [["a"], ["a", "b"]]


async def test_messages_of_swarm_and_task_are_merged(hatchet: Mageflow, desk: Desk) -> None:
    """A task with `extra="ignore"` takes its own fields of the message merged from the swarm's and its own."""
    seen: list[str] = []

    class NewTaskMessage(BaseModel):
        data: str
        model_config = ConfigDict(extra="ignore")

    class SwarmMessage(BaseModel):
        swarm_data: str

    @hatchet.task()
    async def new_task(message: NewTaskMessage) -> None:
        seen.append(message.data)

    initial_task = desk.task("initial")
    swarm = await mageflow.swarm(tasks=[initial_task])
    async with desk.at_work():
        handle = await swarm.aio_run_no_wait(SwarmMessage(swarm_data="swarm_data"))
        added = await swarm.add_task(new_task)
        await added.aio_run_no_wait(NewTaskMessage(data="own"))
        await swarm.close_swarm()
        await handle.result(10)
    assert seen == ["own"]
    assert desk.got["initial"] == [{"swarm_data": "swarm_data"}]


async def test_swarm_is_closed_now_or_at_once(desk: Desk) -> None:
    """`close_swarm()` and `is_swarm_closed=True` end the adding."""
    task_list = desk.tasks("a", "b", result=1)
    swarm = await mageflow.swarm(tasks=task_list)
    assert not swarm.is_swarm_closed
    await swarm.close_swarm()
    closed = await mageflow.swarm(tasks=task_list, is_swarm_closed=True)
    for item in (swarm, closed):
        assert item.is_swarm_closed
        with pytest.raises(SwarmIsClosedError):
            await item.add_task("a")
    async with desk.at_work():
        assert await closed.aio_run(timeout=10) == [1, 1]


async def test_twenty_files_five_at_a_time(desk: Desk) -> None:
    """Of twenty signatures in a closed swarm at most five run at any moment."""
    desk.task("process-file", result=lambda message: message["file_path"], pause=0.1)
    file_tasks = [await mageflow.sign("process-file", file_path=f"file_{i}.txt") for i in range(20)]
    swarm = await mageflow.swarm(tasks=file_tasks, config=SwarmConfig(max_concurrency=5), is_swarm_closed=True)
    async with desk.at_work():
        handle: FlowHandle[Any] = await swarm.aio_run_no_wait(ProcessMessage())
        assert await handle.result(10) == [f"file_{i}.txt" for i in range(20)]
    assert desk.peak == 5


async def test_swarm_stops_after_three_failures(desk: Desk) -> None:
    """`SwarmConfig(stop_after_n_failures=3)`: the third failure fails the swarm and starts its error callback."""
    handle_swarm_failure = desk.task("handle-failure")
    risky_tasks = [desk.task(f"risky-{n}", fails=True) for n in range(5)]
    swarm = await mageflow.swarm(
        tasks=risky_tasks, error_callbacks=[handle_swarm_failure], config=SwarmConfig(stop_after_n_failures=3)
    )
    async with desk.at_work():
        with pytest.raises(FlowFailedError, match="ValueError"):
            await swarm.aio_run(timeout=10)
        await desk.until("handle-failure")
    assert len(desk.got["handle-failure"]) == 1


async def test_swarm_without_a_limit_goes_on(desk: Desk) -> None:
    """`SwarmConfig(stop_after_n_failures=None)`: success callbacks get what succeeded."""
    process_results = desk.task("process-results")
    optional_tasks = [desk.task(f"optional-{n}", result=n, fails=n % 2 == 0) for n in range(5)]
    swarm = await mageflow.swarm(
        tasks=optional_tasks, success_callbacks=[process_results], config=SwarmConfig(stop_after_n_failures=None)
    )
    async with desk.at_work():
        await swarm.aio_run_no_wait()
        await swarm.close_swarm()
        await desk.until("process-results")
    assert desk.got["process-results"] == [{"mageflow_results": [1, 3]}]


async def test_parallel_file_processing(desk: Desk) -> None:
    """The use case of the three files: one consolidated list, in order."""
    desk.task("process-csv-file", result=lambda message: message["file_path"])
    desk.tasks("consolidate-results", "handle-file-errors")
    file_paths = ["file1.csv", "file2.csv", "file3.csv"]
    process_tasks = [await mageflow.sign("process-csv-file", file_path=path) for path in file_paths]
    consolidate_results = await mageflow.sign("consolidate-results")
    handle_processing_errors = await mageflow.sign("handle-file-errors")
    file_swarm = await mageflow.swarm(
        tasks=process_tasks,
        success_callbacks=[consolidate_results],
        error_callbacks=[handle_processing_errors],
        config=SwarmConfig(max_concurrency=3),
        is_swarm_closed=True,
    )
    async with desk.at_work():
        await file_swarm.aio_run_no_wait(ProcessMessage())
        await desk.until("consolidate-results")
    assert desk.got["consolidate-results"] == [{"mageflow_results": file_paths}]
    assert "handle-file-errors" not in desk.got


async def test_dynamic_task_queue(desk: Desk) -> None:
    """The use case of the queue: tasks come while the swarm runs, and the last word is `close_swarm()`."""
    desk.tasks("initial-task", "notify-completion")
    desk.task("process-item", result=lambda message: message["data"])
    initial_tasks = [await mageflow.sign("initial-task")]
    notification_task = await mageflow.sign("notify-completion")
    swarm = await mageflow.swarm(
        tasks=initial_tasks, success_callbacks=[notification_task], config=SwarmConfig(max_concurrency=10)
    )
    async with desk.at_work():
        await swarm.aio_run_no_wait(ProcessMessage())
        for data_item in range(25):
            new_task = await mageflow.sign("process-item", data=data_item)
            await swarm.add_task(new_task)
            await new_task.aio_run_no_wait(ProcessMessage())
        await swarm.close_swarm()
        await desk.until("notify-completion")
    assert desk.got["notify-completion"] == [{"mageflow_results": [None, *range(25)]}]


async def test_batch_of_a_thousand_with_failures(desk: Desk) -> None:
    """The use case of the batch: 49 of 1,000 records may fail; the report gets the results of the others."""
    desk.task("process-record", result=lambda message: message["record_id"], fails=lambda m: m["record_id"] % 21 == 20)
    desk.tasks("generate-completion-report", "send-failure-alert")
    batch_tasks = [await mageflow.sign("process-record", record_id=i) for i in range(1000)]
    completion_report = await mageflow.sign("generate-completion-report")
    failure_alert = await mageflow.sign("send-failure-alert")
    batch_swarm = await mageflow.swarm(
        tasks=batch_tasks,
        success_callbacks=[completion_report],
        error_callbacks=[failure_alert],
        config=SwarmConfig(max_concurrency=20, stop_after_n_failures=50),
        is_swarm_closed=True,
    )
    async with desk.at_work():
        handle = await batch_swarm.aio_run_no_wait(ProcessMessage())
        expected = [i for i in range(1000) if i % 21 != 20]
        assert await handle.result(200) == expected
        await desk.until("generate-completion-report")
    assert desk.got["generate-completion-report"] == [{"mageflow_results": expected}]
    assert "send-failure-alert" not in desk.got
    assert desk.peak <= 20
