"""Handles and results: waiting, statuses, errors, time-outs."""

from __future__ import annotations

import asyncio

import pytest

from mageflow import FlowHandle, Mageflow, Status
from mageflow.errors import AlreadyStartedError, FlowFailedError, ResultTimeoutError, SignatureNotFoundError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Stage


async def test_start_returns_a_handle(stage: Stage, client: Mageflow) -> None:
    """The handle has the signature's key, its status, and waits for its result."""
    signature = await client.asign("wait", gate="a")
    handle = await signature.aio_run_no_wait()
    assert isinstance(handle, FlowHandle)
    assert handle.key == signature.key
    await eventually(lambda: stage.running == {"a"}, "the task runs")
    assert await handle.status() is Status.ACTIVE
    stage.open("a")
    assert await handle.result(10) == "a"
    assert await handle.status() is Status.DONE
    assert await handle.result() == "a"


async def test_task_is_active_from_its_start_not_from_its_run(idle: Stage) -> None:
    """A task that was told to run and has not started reads pending."""
    handle = await (await idle.client.asign("echo")).aio_run_no_wait()
    assert await handle.status() is Status.PENDING


async def test_failure_carries_the_original_error(client: Mageflow) -> None:
    """`FlowFailedError` has type, message and traceback of the original error, and the keys."""
    signature = await client.asign("fail", text="no ink")
    with pytest.raises(FlowFailedError) as caught:
        await signature.aio_run(timeout=10)
    error = caught.value
    assert (error.type, error.message, error.key, error.failed_key) == (
        "BrokenError",
        "no ink",
        signature.key,
        signature.key,
    )
    assert "raise BrokenError" in error.traceback
    assert "no ink" in str(error)
    assert signature.key in str(error)


async def test_time_out_leaves_the_flow_alone(stage: Stage, client: Mageflow) -> None:
    """`ResultTimeoutError` is a `TimeoutError`; the flow goes on and its result can be waited for again."""
    signature = await client.asign("wait", gate="a")
    with pytest.raises(ResultTimeoutError, match=signature.key) as caught:
        await signature.aio_run(timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(ResultTimeoutError):
        await signature.handle.result(0.01)
    stage.open("a")
    assert await signature.handle.result(10) == "a"


async def test_many_wait_for_one_result(stage: Stage, make_client: MakeClient) -> None:
    """Any number of waiters, in any process, get the same result."""
    other = make_client()
    signature = await stage.client.asign("wait", gate="a")
    elsewhere = await other.load_signature(signature.key)
    assert elsewhere is not None
    handles = [await signature.aio_run_no_wait(), signature.handle, elsewhere.handle]
    waiting = asyncio.gather(*(handle.result(10) for handle in handles))
    await eventually(lambda: stage.running == {"a"}, "the task runs")
    stage.open("a")
    assert await waiting == ["a", "a", "a"]
    await other.shutdown()


async def test_member_has_a_result_of_its_own(client: Mageflow) -> None:
    """The result of a member can be waited for while its container runs."""
    members = [await client.asign("double", n=n) for n in (1, 2)]
    swarm = await client.aswarm(members)
    await swarm.aio_run_no_wait()
    assert [await member.handle.result(10) for member in members] == [2, 4]
    await swarm.close_swarm()


async def test_result_of_nothing_is_none(client: Mageflow) -> None:
    """A task without a return value has the result `None`."""
    assert await (await client.asign("note")).aio_run(timeout=10) is None


async def test_second_start_is_refused(stage: Stage, client: Mageflow) -> None:
    """A second run raises `AlreadyStartedError`: while the first waits, while it runs and after its end."""
    signature = await client.asign("wait", gate="a")
    handle = await signature.aio_run_no_wait()
    with pytest.raises(AlreadyStartedError, match=r"aduplicate\(\)"):
        await signature.aio_run_no_wait()
    await eventually(lambda: stage.running == {"a"}, "the task runs")
    with pytest.raises(AlreadyStartedError, match=signature.key):
        await signature.aio_run(timeout=1)
    stage.open("a")
    await handle.result(10)
    with pytest.raises(AlreadyStartedError):
        await signature.aio_run_no_wait()
    assert stage.started == ["a"]


async def test_one_of_many_simultaneous_starts_wins(stage: Stage, client: Mageflow) -> None:
    """Of concurrent starts exactly one is accepted, and the task runs once."""
    signature = await client.asign("echo")
    starts = (signature.aio_run_no_wait({"n": number}) for number in range(10))
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(outcome, FlowHandle) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyStartedError) for outcome in outcomes) == 9
    [winner] = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, FlowHandle)]
    assert await signature.handle.result(10) == {"n": winner}
    assert len(stage.got("echo")) == 1


async def test_changed_arguments_after_the_start_are_refused(stage: Stage, client: Mageflow) -> None:
    """Arguments of a task that has started cannot be changed any more."""
    signature = await client.asign("wait", gate="a")
    await signature.aio_run_no_wait()
    await eventually(lambda: stage.running == {"a"}, "the task runs")
    with pytest.raises(AlreadyStartedError):
        await signature.kwargs.aupdate(gate="b")
    stage.open("a")
    assert await signature.handle.result(10) == "a"


async def test_handle_of_an_expired_flow_says_so(make_client: MakeClient) -> None:
    """Once a finished flow is gone, its handle raises `SignatureNotFoundError`, a `KeyError` that names the key."""
    stage = Stage(make_client(ttl={"done_ttl": 0.2}))
    async with stage.client.worker():
        signature = await stage.client.asign("echo")
        handle = await signature.aio_run_no_wait()
        await eventually(lambda: _gone(stage.client, handle.key), "the flow expired")
        for call in (handle.status, handle.result, signature.arefresh, signature.aio_run_no_wait, signature.aduplicate):
            with pytest.raises(SignatureNotFoundError, match=handle.key) as caught:
                await call()
            assert isinstance(caught.value, KeyError)


async def _gone(client: Mageflow, key: str) -> bool:
    return await client.load_signature(key) is None
