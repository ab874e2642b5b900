"""Attempts: how many there are, what ends them, and what waits for the last one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mageflow import Mageflow, NonRetryableError, Status, SwarmConfig
from mageflow.errors import FlowFailedError
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Message, Stage


def _flaky(stage: Stage, *, good_from: int, retries: int, name: str = "flaky") -> None:
    """Register a task that fails until its attempt `good_from`."""

    async def flaky(msg: Message) -> int:
        stage.keep(name, msg)
        if len(stage.got(name)) < good_from:
            raise BrokenError(f"attempt {len(stage.got(name))}")
        return len(stage.got(name))

    stage.client.task(name=name, retries=retries)(flaky)


async def test_retries_are_further_attempts(stage: Stage, client: Mageflow) -> None:
    """`retries=n` is n + 1 attempts, each with the same message; then the last error counts."""
    _flaky(stage, good_from=99, retries=3)
    with pytest.raises(FlowFailedError, match="attempt 4"):
        await (await client.asign("flaky", a=1)).aio_run({"b": 2}, timeout=10)
    assert stage.got("flaky") == [{"a": 1, "b": 2}] * 4


async def test_one_attempt_by_default(stage: Stage, client: Mageflow) -> None:
    """Without `retries` a task that fails is not run again."""
    _flaky(stage, good_from=2, retries=0)
    with pytest.raises(FlowFailedError, match="attempt 1"):
        await (await client.asign("flaky")).aio_run(timeout=10)
    assert len(stage.got("flaky")) == 1


async def test_callbacks_fire_after_the_last_attempt_only(stage: Stage, client: Mageflow) -> None:
    """A failure that is followed by another attempt fires nothing; the end fires once."""
    _flaky(stage, good_from=3, retries=5)
    _flaky(stage, good_from=99, retries=2, name="hopeless")
    signature = await client.asign("flaky", success_callbacks=["note"], error_callbacks=["on_error"])
    assert await signature.aio_run(timeout=10) == 3
    await eventually(lambda: stage.got("note") == [{"mageflow_results": 3}], "the success callback ran")
    failing = await client.asign("hopeless", success_callbacks=["note"], error_callbacks=["on_error"])
    with pytest.raises(FlowFailedError):
        await failing.aio_run(timeout=10)
    await eventually(lambda: bool(stage.got("on_error")), "the error callback ran")
    assert [message.error.message for message in stage.got("on_error")] == ["attempt 3"]
    assert len(stage.got("note")) == 1


async def test_non_retryable_error_ends_the_attempts(stage: Stage, client: Mageflow) -> None:
    """`NonRetryableError`, raised by a coroutine or in a thread, fails the task at once."""

    async def give_up(msg: Message) -> None:
        stage.keep("give_up", msg)
        raise NonRetryableError("no use")

    def plain_give_up(msg: Message) -> None:
        stage.keep("give_up", msg)
        raise NonRetryableError("no use")

    tasks = [client.task(retries=5)(function) for function in (give_up, plain_give_up)]
    for number, task in enumerate(tasks, start=1):
        with pytest.raises(FlowFailedError, match="no use") as caught:
            await (await client.asign(task)).aio_run(timeout=10)
        assert caught.value.type == "NonRetryableError"
        assert len(stage.got("give_up")) == number


async def test_attempts_of_a_chain_step_keep_the_return_value(stage: Stage, client: Mageflow) -> None:
    """A step that is tried again gets the same return value, and its end goes on with the chain once."""
    _flaky(stage, good_from=3, retries=3)
    chain = await client.achain([await client.asign("double", n=2), "flaky", "note"])
    await chain.aio_run(timeout=10)
    assert stage.got("flaky") == [{"mageflow_results": 4}] * 3
    assert stage.got("note") == [{"mageflow_results": 3}]


async def test_swarm_slot_is_kept_through_retries(stage: Stage, client: Mageflow) -> None:
    """A member between two attempts keeps its slot: no other member starts before it has ended."""
    _flaky(stage, good_from=4, retries=5)
    order: list[str] = []

    async def observe() -> None:
        order.append(f"after {len(stage.got('flaky'))}")

    client.task(name="observe")(observe)
    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=1)
    swarm = await client.aswarm(["flaky", "observe"], config=config, is_swarm_closed=True)
    assert await swarm.aio_run(timeout=10) == [4, None]
    assert order == ["after 4"]
    progress = await swarm.progress()
    assert (progress.done, progress.failed) == (2, 0)


async def test_status_between_attempts_is_active(stage: Stage, client: Mageflow) -> None:
    """A task that failed once and is tried again reads active until its end."""

    async def second_waits(msg: Message) -> str:
        stage.keep("second_waits", msg)
        if len(stage.got("second_waits")) == 1:
            raise BrokenError
        await eventually(lambda: "go" in stage.messages, "the test lets it go")
        return "done"

    client.task(name="second-waits", retries=1)(second_waits)
    handle = await (await client.asign("second-waits")).aio_run_no_wait()
    await eventually(lambda: len(stage.got("second_waits")) == 2, "the second attempt runs")
    assert await handle.status() is Status.ACTIVE
    stage.keep("go", None)
    assert await handle.result(10) == "done"


@pytest.mark.parametrize("limit", [0.1, timedelta(milliseconds=100), "100ms"])
async def test_time_limit_fails_the_attempt(stage: Stage, client: Mageflow, limit: float | timedelta | str) -> None:
    """`execution_timeout`, in seconds, as a timedelta or a text, ends an attempt; the next one may succeed."""

    async def slow_once(msg: Message) -> str:
        stage.keep("slow_once", msg)
        if len(stage.got("slow_once")) == 1:
            await eventually(lambda: False, "it never ends by itself", deadline=20)
        return "in time"

    client.task(name="slow-once", retries=1, execution_timeout=limit)(slow_once)
    assert await (await client.asign("slow-once")).aio_run(timeout=10) == "in time"


async def test_time_limit_fails_the_task(stage: Stage, client: Mageflow) -> None:
    """A task without retries that exceeds its time limit fails, and its error callbacks fire."""

    async def too_slow() -> None:
        await eventually(lambda: False, "it never ends by itself", deadline=20)

    client.task(name="too-slow", execution_timeout=0.1)(too_slow)
    with pytest.raises(FlowFailedError) as caught:
        await (await client.asign("too-slow", error_callbacks=["on_error"])).aio_run(timeout=10)
    assert "Timeout" in caught.value.type
    assert "time limit" in caught.value.message
    assert "too_slow" in caught.value.traceback
    await eventually(lambda: len(stage.got("on_error")) == 1, "the error callback ran")


async def test_every_kind_of_exception_is_a_failure(stage: Stage, client: Mageflow) -> None:
    """Exceptions that end programs elsewhere fail the task here, and the worker goes on; each has a text."""
    errors: dict[str, BaseException] = {
        "exit": SystemExit(1),
        "group": ExceptionGroup("many", [BrokenError()]),
        "stop": StopAsyncIteration(),
        "late": TimeoutError(),
    }

    async def leave(how: str) -> None:
        raise errors[how]

    client.task(name="leave")(leave)
    for how, error in errors.items():
        with pytest.raises(FlowFailedError) as caught:
            await (await client.asign("leave", how=how)).aio_run(timeout=5)
        assert (caught.value.type, caught.value.message) == (type(error).__name__, str(error) or repr(error))
    assert await (await client.asign("double", n=1)).aio_run(timeout=10) == 2
