"""The calls of the text on callbacks, each as it is written there."""

from typing import Any

from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, MageflowConfig
from tests.compat.support import Desk
from tests.eventually import eventually
from thirdmagic.message import ReturnValue


async def test_task_is_named_by_its_name_or_its_function(desk: Desk) -> None:
    """`mageflow.asign` takes a registered name and a task function."""
    my_task_function = desk.task("process-data", result=1)
    signature = await mageflow.asign("process-data")
    same = await mageflow.asign(my_task_function)
    assert (signature.task_name, same.task_name) == ("process-data", "process-data")
    async with desk.at_work():
        assert [await item.aio_run(timeout=10) for item in (signature, same)] == [1, 1]


async def test_client_has_the_same_functions(alone: None, redis_url: str, namespace: str) -> None:
    """`Mageflow(hatchet, redis)` by position returns a client, on which `asign` is a method."""
    hatchet = Mageflow(None, redis_url, config=MageflowConfig(namespace=namespace))
    desk = Desk(hatchet)
    my_task_function = desk.task("process-data")
    by_name = await hatchet.asign("process-data")
    by_function = await hatchet.asign(my_task_function)
    async with desk.at_work():
        await by_name.aio_run(timeout=10)
        await by_function.aio_run(timeout=10)
    await hatchet.shutdown()
    assert len(desk.got["process-data"]) == 2


async def test_keywords_are_bound_to_the_message(desk: Desk) -> None:
    """Keywords of `asign` arrive in the message, whatever they are called beside the reserved names."""
    desk.task("send-notification")
    task_signature = await mageflow.asign("send-notification", template="welcome_email", priority="high", retry_count=3)
    async with desk.at_work():
        await task_signature.aio_run(timeout=10)
    assert desk.got["send-notification"] == [{"template": "welcome_email", "priority": "high", "retry_count": 3}]


async def test_keywords_are_updated_afterwards(desk: Desk) -> None:
    """`await signature.kwargs.aupdate(...)` adds data after the creation."""
    desk.task("process-user-data")
    user_task = await mageflow.asign("process-user-data")
    await user_task.kwargs.aupdate(
        user_id="12345", preferences={"theme": "dark", "notifications": True}, processing_mode="batch"
    )
    async with desk.at_work():
        await user_task.aio_run(timeout=10)
    [message] = desk.got["process-user-data"]
    assert message["preferences"] == {"theme": "dark", "notifications": True}
    assert (message["user_id"], message["processing_mode"]) == ("12345", "batch")


async def test_success_callbacks_start_on_success(desk: Desk) -> None:
    """Two callbacks of a task that succeeds both run, with its result in `mageflow_results`."""
    desk.tasks("send-success-email", "log-completion")
    desk.task("process-order", result={"total": 7})
    success_callback = await mageflow.asign("send-success-email")
    audit_callback = await mageflow.asign("log-completion")
    main_task = await mageflow.asign("process-order", success_callbacks=[success_callback, audit_callback])
    async with desk.at_work():
        await main_task.aio_run(timeout=10)
        for name in ("send-success-email", "log-completion"):
            await desk.until(name)
            assert desk.got[name] == [{"mageflow_results": {"total": 7}}]


async def test_marked_field_takes_the_return_value(hatchet: Mageflow, desk: Desk) -> None:
    """A field `ReturnValue[Any]`, imported from `thirdmagic.message`, takes the result; other fields are bound."""
    seen: list[Any] = []

    class SuccessMessage(BaseModel):
        task_result: ReturnValue[Any]
        field_int: int

    @hatchet.task(input_validator=SuccessMessage)
    async def success_callback(msg: SuccessMessage) -> None:
        seen.append((msg.task_result, msg.field_int))

    desk.task("main", result=["anything", 1])
    callback = await mageflow.asign(success_callback, field_int=5)
    async with desk.at_work():
        await (await mageflow.asign("main", success_callbacks=[callback])).aio_run(timeout=10)
        await _until(seen)
    assert seen == [(["anything", 1], 5)]


async def test_field_of_the_fixed_name_takes_the_return_value(hatchet: Mageflow, desk: Desk) -> None:
    """Without a mark the result goes to `mageflow_results`."""
    seen: list[Any] = []

    class SuccessMessage(BaseModel):
        mageflow_results: str
        field_int: int

    @hatchet.task()
    async def plain_callback(msg: SuccessMessage) -> None:
        seen.append((msg.mageflow_results, msg.field_int))

    desk.task("main", result="text")
    async with desk.at_work():
        callback = await mageflow.asign(plain_callback, field_int=5)
        await (await mageflow.asign("main", success_callbacks=[callback])).aio_run(timeout=10)
        await _until(seen)
    assert seen == [("text", 5)]


async def test_error_callbacks_start_on_failure(desk: Desk) -> None:
    """Each of several error callbacks runs, with the message of the task that failed."""
    names = ["log-error", "alert-administrator", "schedule-retry"]
    desk.tasks(*names)
    desk.task("external-api-call", fails=True)
    error_logger = await mageflow.asign("log-error")
    notify_admin = await mageflow.asign("alert-administrator")
    retry_handler = await mageflow.asign("schedule-retry")
    risky_task = await mageflow.asign("external-api-call", error_callbacks=[error_logger, notify_admin, retry_handler])
    async with desk.at_work():
        await risky_task.aio_run_no_wait({"url": "x"})
        for name in names:
            await desk.until(name)
            assert desk.got[name][0]["url"] == "x"


async def test_error_message_extends_the_original_one(hatchet: Mageflow, desk: Desk) -> None:
    """An error callback's model adds fields to the task's own; they are bound when it is signed."""
    seen: list[Any] = []

    class OriginalMessage(BaseModel):
        order: int

    class ErrorMessage(OriginalMessage):
        additional_field1: int
        additional_field2: str

    @hatchet.task(input_validator=ErrorMessage)
    async def error_callback(msg: ErrorMessage) -> None:
        seen.append(msg.model_dump())

    desk.task("task", model=OriginalMessage, fails=True)
    error_logger = await mageflow.asign(error_callback, additional_field1=12345, additional_field2="test")
    signature = await mageflow.asign("task", error_callbacks=[error_logger])
    async with desk.at_work():
        await signature.aio_run_no_wait(OriginalMessage(order=9))
        await _until(seen)
    assert seen == [{"order": 9, "additional_field1": 12345, "additional_field2": "test"}]


async def test_model_can_be_given_with_the_signature(desk: Desk) -> None:
    """`model_validators=` takes the place of the task's model where it is signed."""

    class ContextMessage(BaseModel):
        context: str

    desk.task("validate-data")
    validated_task = await mageflow.asign("validate-data", model_validators=ContextMessage)
    async with desk.at_work():
        await validated_task.aio_run(ContextMessage(context="here"), timeout=10)
    assert desk.got["validate-data"] == [{"context": "here"}]


async def _until(seen: list[Any]) -> None:
    await eventually(lambda: bool(seen), "the callback ran")
