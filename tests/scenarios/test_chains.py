"""Chains: order, results, and what the failure of a member means."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import Mageflow, Status
from mageflow.errors import ChainTooShortError, FlowCanceledError, FlowFailedError, IllegalMoveError
from tests.eventually import eventually
from tests.scenarios.support import Stage


async def test_members_run_one_after_the_other_on_results(stage: Stage, client: Mageflow) -> None:
    """Each member gets the result of the one before it; the chain's result is the last member's."""
    chain = await client.achain(["double", "add", await client.asign("add", by=10), stage.add])
    assert await chain.aio_run({"n": 3}, timeout=10) == 18
    assert [message.value for message in stage.got("add")] == [6, 7, 17]


async def test_arguments_of_a_chain_go_to_every_member(stage: Stage, client: Mageflow) -> None:
    """`kwargs` of a chain reach all members; what a member has bound itself wins."""
    chain = await client.achain(["echo", "note", await client.asign("echo", who="me")], name="c", who="chain", x=1)
    assert await chain.aio_run(timeout=10) == {"who": "me", "x": 1, "mageflow_results": None}
    assert stage.got("echo")[0] == {"who": "chain", "x": 1}
    assert stage.got("note")[0] == {"who": "chain", "x": 1, "mageflow_results": {"who": "chain", "x": 1}}


async def test_chain_of_fewer_than_two_is_refused(idle: Stage) -> None:
    """A chain needs two members; the error is a `ValueError` and says how many there were."""
    for tasks in ([], ["echo"]):
        with pytest.raises(ChainTooShortError, match=f"got {len(tasks)}") as caught:
            await idle.client.achain(tasks)
        assert isinstance(caught.value, ValueError)


def _given(keyword: str, value: object) -> dict[str, Any]:
    return {keyword: value}


@pytest.mark.parametrize("keyword", ["success", "success_callbacks"])
async def test_success_callbacks_in_both_spellings(stage: Stage, client: Mageflow, keyword: str) -> None:
    """One callback or a list, under either name, starts with the chain's result, once, after the last member."""
    for given in ("note", ["note", "note"]):
        chain = await client.achain([await client.asign("double", n=1), "add"], **_given(keyword, given))
        await chain.aio_run(timeout=10)
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 3}] * 3, "the callbacks ran")


@pytest.mark.parametrize("keyword", ["error", "error_callbacks"])
async def test_failed_member_fails_the_chain(stage: Stage, client: Mageflow, keyword: str) -> None:
    """Later members read canceled and never start; the member's error callbacks fire, then the chain's."""
    failing = await client.asign("fail", own=1, text="stop", error_callbacks=[await client.asign("note", of="member")])
    later = await client.asign("echo", success_callbacks=["total"])
    chain = await client.achain(["double", failing, later, "echo"], name="c", common=2, **{keyword: "on_error"})
    with pytest.raises(FlowFailedError) as caught:
        await chain.aio_run({"n": 1}, timeout=10)
    assert (caught.value.type, caught.value.message, caught.value.failed_key) == ("BrokenError", "stop", failing.key)
    await eventually(lambda: stage.counts() == {"double": 1, "fail": 1, "note": 1, "on_error": 1}, "both callbacks ran")
    received = {"own": 1, "text": "stop", "common": 2, "mageflow_results": 2}
    assert stage.got("fail") == [received]
    [got] = stage.got("on_error")
    assert got.model_extra == received
    assert (got.error.message, got.error.task_name, got.error.key) == ("stop", "c", chain.key)
    assert (got.error.failed_task_name, got.error.failed_key) == ("fail", failing.key)
    await chain.arefresh()
    await later.arefresh()
    assert (chain.task_status, later.task_status) == (Status.FAILED, Status.CANCELED)
    with pytest.raises(FlowCanceledError, match="skipped") as skipped:
        await later.handle.result(1)
    assert skipped.value.reason == "skipped"


async def test_first_or_last_member_may_fail(stage: Stage, client: Mageflow) -> None:
    """Wherever the failure is, the chain fails once and no success callback fires."""
    for tasks in (["fail", "echo"], ["echo", "fail"]):
        chain = await client.achain(tasks, success="total", error="on_error")
        with pytest.raises(FlowFailedError):
            await chain.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("on_error")) == 2, "the error callbacks ran")
    assert stage.counts() == {"fail": 2, "echo": 1, "on_error": 2}


async def test_member_of_a_chain_cannot_be_run(stage: Stage, client: Mageflow) -> None:
    """Running a member raises `IllegalMoveError` before and after the chain has started, and changes nothing."""
    member = await client.asign("wait", gate="a")
    second = await client.asign("echo")
    chain = await client.achain([member, second])
    for signature in (member, second):
        with pytest.raises(IllegalMoveError, match=signature.key):
            await signature.aio_run_no_wait()
    handle = await chain.aio_run_no_wait()
    await eventually(lambda: stage.running == {"a"}, "the first member runs")
    with pytest.raises(IllegalMoveError, match=second.key):
        await second.aio_run_no_wait()
    stage.open("a")
    assert await handle.result(10) == {"mageflow_results": "a"}


async def test_statuses_of_a_chain_while_it_runs(stage: Stage, client: Mageflow) -> None:
    """A chain is active from its run to its end, members are pending, active, done one after the other."""
    members = [await client.asign("wait", gate=gate) for gate in ("a", "b")]
    chain = await client.achain(members)
    handle = await chain.aio_run_no_wait()
    assert await handle.status() is Status.ACTIVE
    await eventually(lambda: stage.running == {"a"}, "the first member runs")
    assert [await member.handle.status() for member in members] == [Status.ACTIVE, Status.PENDING]
    stage.open("a")
    await eventually(lambda: stage.running == {"b"}, "the second member runs")
    assert [await member.handle.status() for member in members] == [Status.DONE, Status.ACTIVE]
    stage.open("b")
    await handle.result(10)
    assert [await member.handle.status() for member in members] == [Status.DONE, Status.DONE]


async def test_long_chain_runs_to_its_end(client: Mageflow) -> None:
    """A chain of more members than one script writes is created and runs."""
    chain = await client.achain(["double", *["add"] * 249])
    assert await chain.aio_run({"n": 0}, timeout=20) == 249
