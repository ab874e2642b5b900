"""TaskIQ: the user's broker stays theirs."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from redis.asyncio import Redis
from taskiq import (
    AsyncBroker,
    Context,
    SimpleRetryMiddleware,
    TaskiqDepends,
    TaskiqEvents,
    async_shared_broker,
)

from mageflow import Mageflow, MageflowConfig
from mageflow.errors import FlowFailedError
from mageflow.store.keys import Keys
from tests.backends.noted import Noted
from tests.eventually import eventually


class Page(BaseModel):
    """A message."""

    number: int


class Connection:
    """What a dependency gives."""

    async def fetch(self, number: int) -> int:
        """Return something."""
        return number * 10


async def test_tasks_of_the_broker_need_no_second_decorator(broker: AsyncBroker, client: Mageflow) -> None:
    """What `@broker.task` made is part of flows by object and by name, and is called by itself as before."""

    @broker.task
    async def total(a: int, b: int = 1) -> int:
        return a + b

    @broker.task("double", priority=3)
    def double(mageflow_results: int) -> int:
        return mageflow_results * 2

    kept = (total.original_func, double.original_func)
    async with client.worker():
        assert await (await client.asign(total, a=2)).aio_run(timeout=10) == 3
        chain = await client.achain([await client.asign(total.task_name, a=1, b=4), double])
        assert await chain.aio_run(timeout=10) == 10
        assert (await (await total.kiq(2, b=5)).wait_result(timeout=10)).return_value == 7
        assert (await (await double.kiq(4)).wait_result(timeout=10)).return_value == 8
    assert (total.original_func, double.original_func) == kept
    assert await total(1, 2) == 3


async def test_shared_tasks(broker: AsyncBroker, client: Mageflow, namespace: str) -> None:
    """What `@shared_task` made is part of flows too, and stays what it was for other brokers."""

    @async_shared_broker.task(f"shared-{namespace}")
    async def shared(page: Page) -> int:
        return page.number

    try:
        async with client.worker():
            assert await (await client.asign(shared, number=4)).aio_run(timeout=10) == 4
        assert async_shared_broker.find_task(f"shared-{namespace}") is shared
    finally:
        del AsyncBroker.global_task_registry[f"shared-{namespace}"]


async def test_task_declared_while_the_worker_runs(broker: AsyncBroker, client: Mageflow) -> None:
    """A task of the broker that is declared late is known at its first use."""
    async with client.worker():

        @broker.task
        async def late(number: int) -> int:
            return number

        assert await (await client.asign(late, number=1)).aio_run(timeout=10) == 1


async def test_dependencies(broker: AsyncBroker, client: Mageflow) -> None:
    """Dependencies and the context are TaskIQ's, in every position of the signature; models come as models."""

    @broker.task(tenant="a")
    async def read(
        context: Annotated[Context, TaskiqDepends()],
        page: Page,
        connection: Annotated[Connection, TaskiqDepends(Connection)],
    ) -> list[Any]:
        return [context.message.labels["tenant"], await connection.fetch(page.number)]

    @broker.task
    def read_blocking(
        number: int,
        connection: Annotated[Connection, TaskiqDepends()],
        context: Annotated[Context, TaskiqDepends()],
    ) -> list[Any]:
        return [type(connection).__name__, number, context.message.task_name]

    plain: Any = read_blocking
    name = read_blocking.task_name
    async with client.worker():
        assert await (await client.asign(read, number=2)).aio_run(timeout=10) == ["a", 20]
        assert await (await client.asign(read_blocking, number=2)).aio_run(timeout=10) == ["Connection", 2, name]
        assert (await (await plain.kiq(3)).wait_result(timeout=10)).return_value == ["Connection", 3, name]


async def test_failed_dependency_fails_the_task(broker: AsyncBroker, client: Mageflow) -> None:
    """An error of a dependency is the task's error, after its retries."""
    calls: list[int] = []

    def locked() -> None:
        calls.append(1)
        raise PermissionError("locked")

    @broker.task(retry_on_error=True, max_retries=2)
    async def read(number: int, lock: None = TaskiqDepends(locked)) -> int:
        return number

    broker.add_middlewares(SimpleRetryMiddleware())
    async with client.worker():
        with pytest.raises(FlowFailedError, match="locked") as caught:
            await (await client.asign(read, number=1)).aio_run(timeout=10)
    assert (caught.value.type, len(calls)) == ("PermissionError", 2)


async def test_middlewares_see_flows_as_any_message(broker: AsyncBroker, client: Mageflow) -> None:
    """Every hook of a middleware gets the task's own arguments; what it does to them on the way is undone before us."""
    noted = Noted()
    broker.add_middlewares(noted)

    @broker.task
    async def whole(page: Page) -> int:
        return page.number

    @broker.task
    async def parts(a: int, b: int) -> int:
        return a + b

    async with client.worker():
        assert await (await client.asign(whole, number=1)).aio_run(timeout=10) == 1
        assert await (await client.asign(parts, a=1, b=2)).aio_run(timeout=10) == 3
        expected: list[tuple[Any, Any]] = [([{"number": 1}], {}), ([], {"a": 1, "b": 2})]
        await eventually(lambda: len(noted.of("executed")) == 2, "both ended")
        assert noted.of("sent") == noted.of("received") == noted.of("executed") == expected
        assert [name for name, _ in noted.of("left")] == [whole.task_name, parts.task_name]


async def test_attributes_and_events_of_the_broker(broker: AsyncBroker, client: Mageflow) -> None:
    """The client answers what the broker answers; its worker is one to the broker's own event handlers."""
    events: list[str] = []

    @client.on_event(TaskiqEvents.WORKER_STARTUP, TaskiqEvents.WORKER_SHUTDOWN)
    async def note(state: Any) -> None:
        events.append(str(broker.is_worker_process))

    async with client.worker():
        assert (client.find_task, client.state) == (broker.find_task, broker.state)
        assert events == ["True"]
    assert events == ["True", "True"]
    assert broker.is_worker_process is False


async def test_broker_that_its_owner_started(broker: AsyncBroker, client: Mageflow) -> None:
    """A broker that was started before is neither started again nor stopped with the client, and lent to a worker."""
    events: list[TaskiqEvents] = []
    for event in TaskiqEvents:
        broker.add_event_handler(event, lambda _, event=event: events.append(event))

    @broker.task
    async def one() -> int:
        return 1

    await broker.startup()
    handle = await (await client.asign(one)).aio_run_no_wait()
    await client.shutdown()
    assert events == [TaskiqEvents.CLIENT_STARTUP]
    async with client.worker():
        assert await handle.result(10) == 1
        await client.asign(one)
    lent = [TaskiqEvents.CLIENT_SHUTDOWN, TaskiqEvents.WORKER_STARTUP, TaskiqEvents.WORKER_SHUTDOWN]
    assert events == [TaskiqEvents.CLIENT_STARTUP, *lent, TaskiqEvents.CLIENT_STARTUP]
    await broker.shutdown()


async def test_two_clients_around_one_broker(
    broker: AsyncBroker, client: Mageflow, redis_url: str, second_namespace: str
) -> None:
    """Two namespaces on one broker: each takes its own deliveries, plain calls are nobody's."""
    other = Mageflow(broker, redis_url, config=MageflowConfig(namespace=second_namespace))

    @broker.task
    async def twice(number: int) -> int:
        return number * 2

    async with client.worker():
        await other.startup()
        for one in (client, other, client):
            assert await (await one.asign(twice, number=3)).aio_run(timeout=10) == 6
        assert (await (await twice.kiq(4)).wait_result(timeout=10)).return_value == 8
        await other.shutdown()


async def test_results_are_written_once(broker: AsyncBroker, client: Mageflow, redis: Redis, namespace: str) -> None:
    """The flow keeps its results: TaskIQ's result store gets none of them, and still those of plain calls."""

    @broker.task
    async def one() -> int:
        return 1

    async with client.worker():
        assert await (await client.asign(one)).aio_run(timeout=10) == 1
        sent = await one.kiq()
        assert (await sent.wait_result(timeout=10)).return_value == 1
    assert await redis.keys(f"{Keys(namespace).queue}:team:*") == [
        f"{Keys(namespace).queue}:team:{sent.task_id}".encode()
    ]
