"""The calls of the overview, each as it is written there."""

from __future__ import annotations

import mageflow
from mageflow import Mageflow, handle_task_callback, register_task
from tests.compat.support import Desk


async def test_chain_of_task_functions(desk: Desk) -> None:
    """`mageflow.chain(tasks, name=...)` runs them one after the other, each with the result of the one before."""
    preprocess_data_task = desk.task("preprocess", result=1)
    analyze_data_task = desk.task("analyze", result=lambda message: message["mageflow_results"] + 1)
    generate_report_task = desk.task("report", result=lambda message: message["mageflow_results"] + 1)
    task_order = [preprocess_data_task, analyze_data_task, generate_report_task]
    workflow = await mageflow.chain(task_order, name="data-pipeline")
    assert workflow.task_name == "data-pipeline"
    async with desk.at_work():
        assert await workflow.aio_run({"source": "s"}, timeout=10) == 3
    assert desk.got["preprocess"] == [{"source": "s"}]
    assert desk.got["analyze"] == [{"mageflow_results": 1}]


async def test_swarm_of_task_functions(desk: Desk) -> None:
    """`mageflow.swarm(tasks, task_name=...)` runs them side by side."""
    swarm_tasks = desk.tasks("process-user", "send", "update-cache", result=lambda message: message["user"])
    parallel_workflow = await mageflow.swarm(swarm_tasks, task_name="user-processing")
    assert parallel_workflow.task_name == "user-processing"
    async with desk.at_work():
        handle = await parallel_workflow.aio_run_no_wait({"user": 1})
        await parallel_workflow.close_swarm()
        assert await handle.result(10) == [1, 1, 1]


async def test_function_declared_without_a_client(desk: Desk) -> None:
    """`register_task` over `handle_task_callback()`: the function is a task of the client whose worker starts."""

    @register_task("my-task")
    @handle_task_callback()
    async def my_task(message):  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType] - as it is written there
        return {"status": "completed"}

    async with desk.at_work():
        both: list[object] = ["my-task", my_task]
        for task in both:
            signature = await mageflow.sign(task)
            assert await signature.aio_run({"a": 1}, timeout=10) == {"status": "completed"}


async def test_signature_with_everything(hatchet: Mageflow, desk: Desk) -> None:
    """`mageflow.sign(task_name=...)` takes identifiers, and task functions as callbacks."""
    send_confirmation_task = desk.task("send-confirmation")
    handle_error_task = desk.task("handle-error")
    desk.task("process-order", fails=lambda message: message.get("broken", False), result="ok")
    for broken, callback in ((False, "send-confirmation"), (True, "handle-error")):
        task_signature = await mageflow.sign(
            task_name="process-order",
            task_identifiers={"order_id": "12345"},
            success_callbacks=[send_confirmation_task],
            error_callbacks=[handle_error_task],
        )
        assert task_signature.task_identifiers == {"order_id": "12345"}
        async with desk.at_work():
            await task_signature.aio_run_no_wait({"broken": broken})
            await desk.until(callback)
    assert len(desk.got["send-confirmation"]) == len(desk.got["handle-error"]) == 1
