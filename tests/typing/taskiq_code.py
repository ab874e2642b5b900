"""What users' code gets from type checkers, on TaskIQ and on the embedded default. Pyright reads it, nothing runs it.

Each `pyright: ignore` stands on a wrong use: were it not an error, the ignore would be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, assert_type

from pydantic import BaseModel
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq_redis import ListQueueBroker

import mageflow
from mageflow import ChainSignature, FlowHandle, Mageflow, SwarmSignature, TaskSignature, handle_task_callback


class Order(BaseModel):
    """A message."""

    number: int


class Parcel(BaseModel):
    """A result."""

    label: str


embedded = Mageflow()
client = Mageflow(ListQueueBroker("redis://localhost"), "redis://localhost")
by_keyword = Mageflow(client=ListQueueBroker("redis://localhost"))


@client.task(name="pack", retries=2, execution_timeout=timedelta(seconds=5), priority=3)
async def pack(order: Order) -> Parcel:
    """Return the parcel of an order."""
    return Parcel(label=str(order.number))


@client.task
def weigh(order: Order) -> float:
    """Return a weight; a plain function."""
    return order.number / 2


@by_keyword.durable_task(name="note")
@by_keyword.with_signature
@by_keyword.stagger_execution(wait_delta=timedelta(seconds=1))
async def note(order: Order, signature: TaskSignature[Any, Any]) -> str | None:
    """Return its own name."""
    return signature.task_name


@embedded.task()
async def by_name(number: int, label: str = "") -> list[str]:
    """Take fields by name."""
    return [label] * number


@mageflow.register_task("early")
@handle_task_callback(send_signature=True)
async def early(order: Order, signature: TaskSignature[Any, Any]) -> bool:
    """Return whether it is there."""
    return signature.task_name == "early"


async def test_a_typed_task_gives_a_typed_signature() -> None:
    """`asign` knows message and result of functions and task objects; of names it knows nothing."""
    assert_type(await client.asign(pack, number=1), TaskSignature[Order, Parcel])
    assert_type(await client.sign(weigh), TaskSignature[Order, float])
    assert_type(await mageflow.asign(note), TaskSignature[Order, str | None])
    assert_type(await mageflow.sign(early), TaskSignature[Order, bool])
    assert_type(await embedded.asign(by_name, number=2), TaskSignature[Any, list[str]])
    assert_type(await client.asign("pack", number=1), TaskSignature[Any, Any])
    assert_type(await client.asign(task_name="pack", task_identifiers={"a": 1}), TaskSignature[Any, Any])


async def test_results_have_the_type_of_the_function() -> None:
    """`aio_run` returns the result, `aio_run_no_wait` a handle of it; a message is a model, a mapping or nothing."""
    signature = await client.asign(pack)
    assert_type(await signature.aio_run(Order(number=1), timeout=3), Parcel)
    assert_type(await signature.aio_run({"number": 1}), Parcel)
    handle = await signature.aio_run_no_wait()
    assert_type(handle, FlowHandle[Parcel])
    assert_type(await handle.result(1), Parcel)
    assert_type(await client.achain([pack, weigh]), ChainSignature[Any, Any])
    assert_type(await client.aswarm([pack]), SwarmSignature[Any, list[Any]])


async def test_wrong_messages_are_errors() -> None:
    """Another model, a bare value and a class are refused."""
    signature = await client.asign(pack)
    await signature.aio_run(Parcel(label="a"))  # pyright: ignore[reportArgumentType]
    await signature.aio_run("1")  # pyright: ignore[reportArgumentType]
    await signature.aio_run_no_wait(Order)  # pyright: ignore[reportArgumentType]
    await signature.aio_run(Order(number=1), timeout="soon")  # pyright: ignore[reportArgumentType]
    number: int = await signature.aio_run()  # pyright: ignore[reportAssignmentType]
    del number


async def test_wrong_options_are_errors() -> None:
    """Options of the decorators and of the client have types."""
    client.task(retries="many")  # pyright: ignore[reportArgumentType]
    client.task(input_validator=3)  # pyright: ignore[reportArgumentType]
    client.stagger_execution(wait_delta=10)  # pyright: ignore[reportArgumentType]
    client.pause(1)  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    Mageflow(config={"namespace": "a"})  # pyright: ignore[reportArgumentType]
    await client.aswarm([pack], max_concurrency=3).aio_run()  # pyright: ignore[reportAttributeAccessIssue]


async def test_attributes_of_the_broker_are_known() -> None:
    """What the broker has, the client has, with its type; what a task object can do, it can do."""
    found: Mapping[str, Any] = client.get_all_tasks()
    backend: AsyncResultBackend[Any] = client.result_backend
    wrong: int = client.find_task("pack")  # pyright: ignore[reportAssignmentType]
    sent = await pack.kiq(Order(number=1))
    assert_type((await sent.wait_result()).return_value, Parcel)
    await pack.kiq(1)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert_type(await pack(Order(number=1)), Parcel)
    del found, backend, wrong


async def test_workers_and_shared_verbs() -> None:
    """A worker is a context; the verbs for synchronous code know their results."""
    async with embedded.worker(slots=3):
        pass
    assert_type(client.sync.load_signature("key") is None, bool)
    client.sync.asign(pack).aio_run_no_wait().result("long")  # pyright: ignore[reportArgumentType]
