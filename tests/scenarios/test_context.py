"""Tasks that take the task manager's own context as their second parameter."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from taskiq import Context

from mageflow import AcceptParams
from tests.conftest import MakeClient


class Number(BaseModel):
    """A message."""

    n: int


@pytest.mark.parametrize("params", [AcceptParams.ALL, AcceptParams.CTX_ONLY])
async def test_second_parameter_is_the_context(make_client: MakeClient, params: AcceptParams) -> None:
    """Async and plain functions get it, in a flow and outside; one with a single parameter gets the message alone."""
    client = make_client(param_config=params)

    @client.task(name="with-context")
    async def with_context(message: Number, ctx: Context, factor: int = 2) -> str:
        return f"{message.n * factor} {ctx.message.task_name}"

    @client.task(name="in-a-thread")
    def in_a_thread(message: Number, ctx: Context) -> str:
        return f"{message.n} {ctx.message.task_name}"

    @client.task(name="alone")
    async def alone(message: Number) -> int:
        return message.n

    async with client.worker():
        assert await (await client.asign(with_context, n=3)).aio_run(timeout=10) == "6 with-context"
        assert await (await client.asign(in_a_thread, n=3)).aio_run(timeout=10) == "3 in-a-thread"
        assert await (await client.asign(alone, n=3)).aio_run(timeout=10) == 3
        outside = await (await with_context.kiq(Number(n=4))).wait_result(timeout=10)
        assert outside.return_value == "8 with-context"
