"""TaskIQ: retries, time limits, messages that are put back; and every trap in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest
from taskiq import (
    AsyncBroker,
    Context,
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqDepends,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
    TaskiqScheduler,
)
from taskiq.exceptions import NoResultError
from taskiq.receiver import Receiver
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker
from typing_extensions import override

from mageflow import Mageflow, MageflowConfig, NonRetryableError
from mageflow.errors import FlowFailedError
from tests.backends.noted import Noted
from tests.eventually import eventually


async def test_smart_retries_are_obeyed(broker: AsyncBroker, client: Mageflow) -> None:
    """A middleware with delays, a limit of its own and types of exceptions decides; callbacks fire at the end."""
    broker.add_middlewares(SmartRetryMiddleware(default_delay=0.1, types_of_exceptions=(LookupError,)))
    attempts: list[str] = []

    @broker.task(retry_on_error=True, max_retries=3)
    async def trial(kind: str) -> None:
        attempts.append(kind)
        raise {"lookup": LookupError, "value": ValueError}[kind]("broken")

    failures: list[Any] = []

    @client.task()
    async def note(msg: dict[str, Any]) -> None:
        failures.append(msg["mageflow_error"]["type"])

    async with client.worker():
        for kind in ("lookup", "value"):
            with pytest.raises(FlowFailedError):
                await (await client.asign(trial, kind=kind, error_callbacks=[note])).aio_run(timeout=10)
        await eventually(lambda: len(failures) == 2, "both callbacks ran")
    assert attempts == ["lookup", "lookup", "lookup", "value"]
    assert failures == ["LookupError", "ValueError"]


async def test_retries_that_a_scheduler_sends(broker: AsyncBroker, client: Mageflow, redis_url: str) -> None:
    """A middleware that leaves retries to a schedule source: the flow waits for what the scheduler sends."""
    source = ListRedisScheduleSource(redis_url, prefix=f"{_queue(broker)}:schedule")
    broker.add_middlewares(SmartRetryMiddleware(schedule_source=source, default_delay=0.2, use_jitter=False))
    attempts: list[str] = []

    @broker.task(retry_on_error=True, max_retries=3)
    async def trial(mageflow_results: str) -> str:
        attempts.append(mageflow_results)
        if len(attempts) < 3:
            raise LookupError("broken")
        return f"{mageflow_results} at last"

    @broker.task
    async def first() -> str:
        return "done"

    async def schedule() -> None:
        """Send what is due, as `taskiq scheduler` does."""
        scheduler = TaskiqScheduler(broker, [source])
        while True:
            for task in await source.get_schedules():
                if task.time is not None and task.time <= datetime.now(task.time.tzinfo):
                    await scheduler.on_ready(source, task)
            await asyncio.sleep(0.05)

    scheduling = asyncio.create_task(schedule())
    async with client.worker():
        assert await (await client.achain([first, trial])).aio_run(timeout=15) == "done at last"
    scheduling.cancel()
    await asyncio.wait([scheduling])
    await source._connection_pool.disconnect()  # which its `shutdown` does not
    assert attempts == ["done"] * 3


def _queue(broker: AsyncBroker) -> str:
    return broker.queue_name if isinstance(broker, RedisStreamBroker) else ""


async def test_retries_of_a_task_signed_elsewhere(
    broker: AsyncBroker, client: Mageflow, redis_url: str, namespace: str
) -> None:
    """A client that never saw the function sends the labels of its task along: retries, time limit, the team's own."""
    queue = _queue(broker)
    stranger = RedisStreamBroker(redis_url, queue_name=queue, consumer_group_name=queue)
    web = Mageflow(stranger, redis_url, config=MageflowConfig(namespace=namespace))
    seen: list[dict[str, Any]] = []

    @client.task(name="trial", retries=1, execution_timeout=timedelta(seconds=9), tenant="a")
    async def trial(msg: dict[str, Any], context: Annotated[Context, TaskiqDepends()]) -> None:
        seen.append(dict(context.message.labels))
        raise LookupError("broken")

    async with client.worker():
        with pytest.raises(FlowFailedError):
            await (await web.asign("trial")).aio_run(timeout=10)
    await web.shutdown()
    assert [labels["tenant"] for labels in seen] == ["a", "a"]
    assert {labels["timeout"] for labels in seen} == {9.0}


async def test_no_point_in_a_retry(broker: AsyncBroker, client: Mageflow) -> None:
    """`NonRetryableError` ends the attempts in a flow and outside, whatever the middleware would do."""
    broker.add_middlewares(SimpleRetryMiddleware(default_retry_label=True))
    attempts: list[int] = []

    @broker.task
    async def hopeless() -> None:
        attempts.append(1)
        raise NonRetryableError("no")

    async with client.worker():
        with pytest.raises(FlowFailedError):
            await (await client.asign(hopeless)).aio_run(timeout=10)
        assert (await (await hopeless.kiq()).wait_result(timeout=10)).is_err
    assert len(attempts) == 2


async def test_time_limit_of_the_last_attempt(broker: AsyncBroker, client: Mageflow) -> None:
    """Code that is stopped by TaskIQ's time limit sees a cancel; what is recorded and retried is the time-out."""
    stopped: list[str] = []

    @client.task(name="slow", retries=1, execution_timeout=0.1)
    async def slow(msg: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("canceled")
            raise

    async with client.worker():
        with pytest.raises(FlowFailedError) as caught:
            await (await client.asign(slow)).aio_run(timeout=10)
    assert (caught.value.type, stopped) == ("TimeoutError", ["canceled"] * 2)


async def test_requeued_message_runs_again(broker: AsyncBroker, client: Mageflow) -> None:
    """`Context.requeue()` puts the very message back, with its count; the task goes on, nothing is recorded of it."""
    counts: list[str] = []

    @broker.task
    async def later(number: int, context: Annotated[Context, TaskiqDepends()]) -> int:
        counts.append(str(context.message.labels.get("X-Taskiq-requeue")))
        if len(counts) < 3:
            await context.requeue()
        return number

    async with client.worker():
        assert await (await client.asign(later, number=5)).aio_run(timeout=10) == 5
    assert counts == ["None", "1", "2"]


async def test_dependency_that_requeues(broker: AsyncBroker, client: Mageflow) -> None:
    """A dependency that puts the message back, before the task began, loses nothing either."""
    counts: list[int] = []

    async def gate(context: Annotated[Context, TaskiqDepends()]) -> None:
        counts.append(1)
        if len(counts) < 3:
            await context.requeue()

    @broker.task
    async def later(number: int, lock: None = TaskiqDepends(gate)) -> int:
        return number

    async with client.worker():
        assert await (await client.asign(later, number=5)).aio_run(timeout=10) == 5
    assert len(counts) == 3


async def test_no_result_is_no_outcome(broker: AsyncBroker, client: Mageflow) -> None:
    """A task that raises TaskIQ's `NoResultError` has not ended: it runs again."""
    runs: list[int] = []

    @broker.task
    async def shy(number: int) -> int:
        runs.append(number)
        if len(runs) < 3:
            raise NoResultError
        return number

    async with client.worker():
        assert await (await client.asign(shy, number=2)).aio_run(timeout=10) == 2
    assert runs == [2, 2, 2]


async def test_rejected_task_has_failed(broker: AsyncBroker, client: Mageflow) -> None:
    """`Context.reject()` fails the task."""

    @broker.task
    async def picky(context: Annotated[Context, TaskiqDepends()]) -> None:
        context.reject()

    async with client.worker():
        with pytest.raises(FlowFailedError) as caught:
            await (await client.asign(picky)).aio_run(timeout=10)
    assert caught.value.type == "TaskRejectedError"


class Racing(SimpleRetryMiddleware):
    """Lets the retry arrive, start and end before the attempt that failed is over."""

    def __init__(self, arrived: Callable[[], bool]) -> None:
        super().__init__()
        self._arrived = arrived

    @override
    async def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        await super().on_error(message, result, exception)
        await eventually(self._arrived, "the next attempt ended")


async def test_retry_that_overtakes_its_failed_attempt(broker: AsyncBroker, client: Mageflow) -> None:
    """A retry may run before the failed attempt is through: it counts, and nothing of it is undone."""
    ends: list[int] = []
    broker.add_middlewares(Racing(lambda: bool(ends)))
    attempts: list[int] = []

    @broker.task(retry_on_error=True)
    async def trial(number: int) -> int:
        attempts.append(number)
        if len(attempts) == 1:
            raise LookupError("broken")
        ends.append(number)
        return number

    async with client.worker():
        assert await (await client.asign(trial, number=3)).aio_run(timeout=10) == 3
    assert attempts == [3, 3]


class ByOtherMeans(TaskiqMiddleware):
    """Retries by a message of its own making, with a new id and no count."""

    @override
    async def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        if message.labels.get("retry_on_error", True):
            task = self.broker.find_task(message.task_name)
            assert task is not None
            await task.kicker().with_labels(**message.labels).kiq(*message.args, **message.kwargs)
            result.error = NoResultError()


async def test_retries_of_a_team_s_own(broker: AsyncBroker, client: Mageflow) -> None:
    """A middleware that sends messages of its own for retries, which count nothing, is obeyed."""
    broker.add_middlewares(ByOtherMeans())
    attempts: list[int] = []

    @broker.task
    async def trial(number: int) -> int:
        attempts.append(number)
        if len(attempts) < 3:
            raise LookupError("broken")
        return number

    async with client.worker():
        assert await (await client.asign(trial, number=3)).aio_run(timeout=10) == 3
    assert len(attempts) == 3


async def test_worker_that_has_closed_its_threads(broker: AsyncBroker, client: Mageflow) -> None:
    """What comes to a worker that cannot run it any more, as its broker raised, has not failed: it runs elsewhere."""
    calls: list[int] = []

    @broker.task(retry_on_error=True, max_retries=1)
    def plain(number: int) -> int:
        calls.append(number)
        return number

    noted = Noted()
    broker.add_middlewares(SimpleRetryMiddleware(), noted)
    pool, finish = ThreadPoolExecutor(1), asyncio.Event()
    broker.is_worker_process = True
    listening = asyncio.create_task(Receiver(broker, executor=pool, max_async_tasks=1).listen(finish))
    pool.shutdown()
    task = await client.asign(plain, number=1)
    handle = await task.aio_run_no_wait()

    await eventually(lambda: len(noted.of("sent")) > 1, "it was given back")
    finish.set()
    await listening
    await broker.shutdown()
    assert not calls
    broker.is_worker_process = False
    async with client.worker():
        assert await handle.result(10) == 1
    assert calls == [1]
