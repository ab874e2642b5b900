"""Callbacks: when they fire, with what, and what their own failure means."""

from __future__ import annotations

import logging

import pytest
from pydantic import BaseModel, ConfigDict

from mageflow import ErrorValue, Mageflow, Status, SwarmConfig
from mageflow.errors import FlowFailedError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Failure, Message, Server, Stage, nothing


async def test_success_fires_each_success_callback_with_the_result(stage: Stage, client: Mageflow) -> None:
    """On success every success callback starts with the result, and no error callback does."""
    bound = await client.asign("add", by=5)
    signature = await client.asign(
        "double", n=2, success_callbacks=[bound, "add", "note"], error_callbacks=["on_error"]
    )
    assert await signature.aio_run(timeout=10) == 4
    await eventually(lambda: stage.counts() == {"double": 1, "add": 2, "note": 1}, "all success callbacks ran")
    assert sorted((message.value, message.by) for message in stage.got("add")) == [(4, 1), (4, 5)]
    assert stage.got("note") == [{"mageflow_results": 4}]


async def test_failure_fires_each_error_callback_and_no_success_callback(stage: Stage, client: Mageflow) -> None:
    """On failure every error callback starts, and no success callback does."""
    signature = await client.asign("fail", success_callbacks=["echo"], error_callbacks=["on_error", "note"])
    with pytest.raises(FlowFailedError):
        await signature.aio_run(timeout=10)
    await eventually(lambda: stage.counts() == {"fail": 1, "on_error": 1, "note": 1}, "both error callbacks ran")


async def test_callback_may_be_given_in_every_form(stage: Stage, client: Mageflow) -> None:
    """A callback is a signature, a key, a name, a task object or a function, alone or in a list."""

    @client.task(name="by-function")
    async def by_function(msg: Message) -> None:
        stage.keep("note", msg)

    given = [await client.asign("note"), (await client.asign("note")).key, "note", stage.note, by_function]
    signature = await client.asign("double", n=1, success_callbacks=given)
    await signature.aio_run(timeout=10)
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 2}] * 5, "all five ran")
    await (await client.asign("double", n=1, success_callbacks="echo")).aio_run(timeout=10)
    await eventually(lambda: stage.got("echo") == [{"mageflow_results": 2}], "the single one ran")


async def test_error_callback_gets_the_message_of_the_failed_task(stage: Stage, client: Mageflow) -> None:
    """It gets what the failed task got, merged from every source, over which its own bound arguments win."""
    handler = await client.asign("on_error", deep={"b": 9}, extra=1)
    failing = await client.asign("fail", deep={"a": 1, "b": 2}, n=1, error_callbacks=[handler])
    await failing.aio_run_no_wait({"n": 2, "m": 3})
    await eventually(lambda: bool(stage.got("on_error")), "the error callback ran")
    got = stage.got("on_error")[0].model_dump(exclude={"error"})
    assert got == {"deep": {"a": 1, "b": 9}, "n": 2, "m": 3, "extra": 1}


async def test_error_callback_of_a_member_gets_the_merged_message(stage: Stage, client: Mageflow) -> None:
    """The message of a failed member includes what its containers gave and the return value that it got."""
    failing = await client.asign("fail", own=1, error_callbacks=["on_error"])
    swarm = await client.aswarm([failing], is_swarm_closed=True, of_swarm=2)
    chain = await client.achain(["echo", swarm], of_chain=3)
    await chain.aio_run({"start": 4}, timeout=10)
    await eventually(lambda: bool(stage.got("on_error")), "the error callback ran")
    got = stage.got("on_error")[0].model_dump(exclude={"error"})
    received = stage.got("fail")[0]
    assert received == {"own": 1, "of_swarm": 2, "of_chain": 3, "mageflow_results": {"start": 4, "of_chain": 3}}
    assert got == received


class _Order(BaseModel):
    order: int


class _OrderFailed(_Order):
    model_config = ConfigDict(extra="forbid")
    channel: str
    problem: ErrorValue


async def test_error_model_may_extend_the_message_of_the_task(stage: Stage, client: Mageflow) -> None:
    """An error callback's model is the task's with further fields, which are bound to the callback."""

    async def order(msg: _Order) -> None:
        raise KeyError(msg.order)

    async def order_failed(msg: _OrderFailed) -> None:
        stage.keep("order_failed", msg)

    client.task(name="order")(order)
    client.task(name="order-failed")(order_failed)
    handler = await client.asign(order_failed, channel="mail")
    signature = await client.asign("order", error_callbacks=[handler])
    await signature.aio_run_no_wait(_Order(order=7))
    await eventually(lambda: bool(stage.got("order_failed")), "the error callback ran")
    [got] = stage.got("order_failed")
    assert (got.order, got.channel, got.problem.type, got.problem.key) == (7, "mail", "KeyError", signature.key)


async def test_swarm_tells_its_error_callbacks_of_itself(stage: Stage, client: Mageflow) -> None:
    """They get the message that the swarm got, and the n-th failure's error with the swarm's key and name."""
    members = [await client.asign("fail", text=f"{number}", secret=number) for number in range(3)]
    swarm = await client.aswarm(
        members,
        task_name="batch",
        error_callbacks=["on_error"],
        config=SwarmConfig(max_concurrency=1, stop_after_n_failures=2),
        is_swarm_closed=True,
        hidden=1,
    )
    with pytest.raises(FlowFailedError) as caught:
        await swarm.aio_run({"day": "monday"}, timeout=10)
    assert (caught.value.type, caught.value.message, caught.value.key) == ("BrokenError", "1", swarm.key)
    await eventually(lambda: bool(stage.got("on_error")), "the error callback ran")
    [got] = stage.got("on_error")
    assert got.model_extra == {"day": "monday", "hidden": 1}
    assert (got.error.type, got.error.message) == ("BrokenError", "1")
    assert (got.error.task_name, got.error.key) == ("batch", swarm.key)
    assert (got.error.failed_task_name, got.error.failed_key) == ("fail", members[1].key)


async def test_callbacks_have_callbacks_of_their_own(stage: Stage, client: Mageflow) -> None:
    """A callback's success fires its success callbacks, its failure its error callbacks."""
    last = await client.asign("note")
    second = await client.asign("add", by=1, success_callbacks=[last])
    handler = await client.asign("on_error")
    third = await client.asign("fail", text="third", error_callbacks=[handler])
    await (await client.asign("double", n=1, success_callbacks=[second, third])).aio_run(timeout=10)
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 3}], "the second level ran")
    await eventually(lambda: bool(stage.got("on_error")), "the error of the callback was told")
    assert stage.got("on_error")[0].error.message == "third"


async def test_one_signature_is_the_callback_of_many(stage: Stage, client: Mageflow) -> None:
    """Each firing runs a fresh copy; the template itself stays pending."""
    template = await client.asign("add", by=10)
    first = await client.asign("double", n=1, success_callbacks=[template])
    second = await client.asign("double", n=2, success_callbacks=[template])
    twice = await client.asign("double", n=3, success_callbacks=[template, template])
    for signature in (first, second, twice):
        await signature.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("add")) == 4, "the template fired four times")
    assert sorted(message.value for message in stage.got("add")) == [2, 4, 6, 6]
    await template.arefresh()
    assert template.task_status is Status.PENDING


async def test_firing_copies_the_template_as_it_is_then(stage: Stage, client: Mageflow) -> None:
    """Arguments changed after the template was named count if they were changed before it fires."""
    template = await client.asign("add", by=10)
    signature = await client.asign("double", n=1, success_callbacks=[template])
    await template.kwargs.aupdate(by=20)
    await signature.aio_run(timeout=10)
    await eventually(lambda: [message.by for message in stage.got("add")] == [20], "the callback ran")


async def test_swarm_as_a_callback_is_closed_by_the_firing(stage: Stage, client: Mageflow) -> None:
    """An open swarm that fires as a callback takes its members, each with the result, and ends."""
    template = await client.aswarm(["add", await client.asign("add", by=2)], success_callbacks=["total"])
    await (await client.asign("double", n=5, success_callbacks=[template])).aio_run(timeout=10)
    await eventually(lambda: bool(stage.got("total")), "the swarm's own callback ran")
    assert sorted(stage.got("total")[0].values) == [11, 12]
    await template.add_task("note")
    await template.arefresh()
    assert (template.task_status, template.is_swarm_closed) == (Status.PENDING, False)


async def test_chain_as_a_callback_starts_with_the_result(stage: Stage, client: Mageflow) -> None:
    """The first member of a chain that fires gets the result, or the error with the failed task's message."""
    good = await client.achain(["add", "note"])
    bad = await client.achain(["on_error", "echo"])
    await (await client.asign("double", n=5, success_callbacks=[good])).aio_run(timeout=10)
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 11}], "the chain ran")
    await (await client.asign("fail", n=1, error_callbacks=[bad])).aio_run_no_wait()
    await eventually(lambda: stage.got("echo") == [{"mageflow_results": None}], "the error chain ran")
    assert stage.got("on_error")[0].model_extra == {"n": 1}


async def test_callbacks_of_a_copy_fire_as_those_of_the_original(stage: Stage, client: Mageflow) -> None:
    """Members of a fired container fire their own callbacks."""
    member = await client.asign("double", n=3, success_callbacks=["note"])
    swarm = await client.aswarm([member, await client.asign("fail", error_callbacks=["on_error"])])
    await (await client.asign("echo", success_callbacks=[swarm])).aio_run(timeout=10)
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 6}], "the member's callback ran")
    await eventually(lambda: len(stage.got("on_error")) == 1, "the failed member's callback ran")


async def test_callback_that_refuses_its_message_leaves_the_task_done(stage: Stage, client: Mageflow) -> None:
    """A callback whose message does not validate fails by itself; its own error callback tells, the task stays done."""
    callback = await client.asign("add", error_callbacks=["on_error"])
    signature = await client.asign("echo", success_callbacks=[callback])
    assert await signature.aio_run({"a": 1}, timeout=10) == {"a": 1}
    await eventually(lambda: bool(stage.got("on_error")), "the callback's failure was told")
    error: Failure = stage.got("on_error")[0]
    assert (error.error.type, error.error.task_name) == ("InvalidMessageError", "add")
    await signature.arefresh()
    assert (signature.task_status, stage.counts()["echo"]) == (Status.DONE, 1)


async def test_callback_of_a_forgotten_task_is_recorded_and_logged(
    stage: Stage, make_client: MakeClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback whose task nobody knows any more is logged, its record fails and says why; the task stays done."""
    other = make_client()
    other.task(name="forgotten")(nothing)
    template = await other.asign("forgotten")
    await other.shutdown()
    server.connection.hdel(server.keys.tasks, "forgotten")
    signature = await stage.client.asign("double", n=1, success_callbacks=[template])
    with caplog.at_level(logging.ERROR, logger="mageflow"):
        assert await signature.aio_run(timeout=10) == 2
        await eventually(lambda: "forgotten" in caplog.text, "the refusal was logged")
    [fired] = server.fired_by(signature.key)
    copy = await stage.client.load_signature(fired)
    assert copy is not None
    with pytest.raises(FlowFailedError, match="forgotten") as caught:
        await copy.handle.result(10)
    assert caught.value.type == "UnrecognizedTaskError"
    await signature.arefresh()
    assert (signature.task_status, stage.counts()["double"]) == (Status.DONE, 1)
