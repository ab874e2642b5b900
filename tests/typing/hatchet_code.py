"""What users' code gets from type checkers, on Hatchet. Pyright reads it, nothing runs it.

Each `pyright: ignore` stands on a wrong use: were it not an error, the ignore would be one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, EmptyModel, Hatchet, Worker
from hatchet_sdk.runnables.workflow import Standalone  # pyright: ignore[reportMissingTypeStubs] - a folder that is no package
from pydantic import BaseModel

import mageflow
from mageflow import AcceptParams, Mageflow, TaskSignature


class Order(BaseModel):
    """A message."""

    number: int


class Parcel(BaseModel):
    """A result."""

    label: str


hatchet = Mageflow(Hatchet(), "redis://localhost", AcceptParams.NO_CTX)
client = Mageflow(hatchet_client=Hatchet(), redis_client="redis://localhost")


@hatchet.task(
    name="pack",
    input_validator=Order,
    retries=2,
    execution_timeout=timedelta(seconds=5),
    concurrency=[
        ConcurrencyExpression(
            expression="input.number", max_runs=2, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN
        )
    ],
)
async def pack(order: Order) -> Parcel:
    """Return the parcel of an order."""
    return Parcel(label=str(order.number))


@hatchet.durable_task(name="with-context")
@hatchet.with_ctx
@hatchet.with_signature
async def with_context(order: Order, ctx: Context, signature: TaskSignature[Any, Any]) -> Parcel:
    """Take everything."""
    ctx.log(str(signature.task_name))
    return Parcel(label=ctx.workflow_run_id)


@client.task(execution_timeout="5s")
async def by_name(number: int) -> dict[str, int]:
    """Take fields by name."""
    return {"number": number}


async def test_a_typed_task_gives_a_typed_signature() -> None:
    """Decorators return Hatchet's own task objects, and signatures of them know message and result."""
    assert_type(pack, Standalone[Order, Parcel])
    assert_type(by_name, Standalone[EmptyModel, dict[str, int]])
    assert_type(await hatchet.asign(pack, number=1), TaskSignature[Order, Parcel])
    assert_type(await mageflow.asign(with_context), TaskSignature[Order, Parcel])
    assert_type(await (await hatchet.sign(pack)).aio_run(Order(number=1)), Parcel)


async def test_attributes_of_hatchet_are_known() -> None:
    """What Hatchet has, the client has, with its type."""
    assert_type(hatchet.worker("worker", slots=3, workflows=[pack, by_name]), Worker)
    hatchet.worker()  # pyright: ignore[reportCallIssue]
    wrong: int = hatchet.runs  # pyright: ignore[reportAssignmentType]
    assert_type(await pack.aio_run(Order(number=1)), Parcel)
    del wrong


async def test_wrong_uses_are_errors() -> None:
    """Another model and options of another type are refused."""
    await (await hatchet.asign(pack)).aio_run(Parcel(label="a"))  # pyright: ignore[reportArgumentType]
    hatchet.task(name=3)  # pyright: ignore[reportArgumentType]
    hatchet.task(retries="many")  # pyright: ignore[reportArgumentType]
    Mageflow(Hatchet(), param_config="all")  # pyright: ignore[reportArgumentType]
