"""Plain functions as tasks: they run in threads, beside each other and beside coroutines."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from mageflow import Mageflow, ReturnValue
from mageflow.errors import FlowFailedError
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Number, Stage


class _Result(BaseModel):
    items: ReturnValue[list[int]]


async def test_plain_function_runs_outside_the_loop(client: Mageflow) -> None:
    """A plain function runs in another thread than the event loop, with its validated message."""

    def where(msg: Number) -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), msg.n]

    client.task(name="where")(where)
    assert await (await client.asign("where", n=3)).aio_run(timeout=10) == [False, 3]


async def test_plain_functions_run_side_by_side(client: Mageflow) -> None:
    """Threads run at the same time: tasks that wait for each other all end."""
    barrier = threading.Barrier(4, timeout=10)

    def meet(n: int) -> int:
        barrier.wait()
        return n

    client.task(name="meet")(meet)
    swarm = await client.aswarm([await client.asign("meet", n=n) for n in range(4)], is_swarm_closed=True)
    assert await swarm.aio_run(timeout=15) == [0, 1, 2, 3]


async def test_plain_functions_in_chains_with_coroutines(stage: Stage, client: Mageflow) -> None:
    """Plain functions take return values, fail, and fire callbacks as coroutines do."""

    def total(msg: _Result) -> int:
        return sum(msg.items)

    def explode(msg: Number) -> int:
        raise BrokenError(str(msg.n))

    client.task(name="plain-total")(total)
    client.task(name="explode")(explode)
    swarm = await client.aswarm([await client.asign("double", n=n) for n in range(4)], is_swarm_closed=True)
    assert await (await client.achain([swarm, "plain-total", "add"])).aio_run(timeout=10) == 13
    with pytest.raises(FlowFailedError, match="7") as caught:
        await (await client.asign("explode", n=7, error_callbacks=["on_error"])).aio_run(timeout=10)
    assert caught.value.type == "BrokenError"
    await eventually(lambda: len(stage.got("on_error")) == 1, "the error callback ran")


async def test_retries_of_a_plain_function(stage: Stage, client: Mageflow) -> None:
    """A plain function is run again after a failure, as often as its retries allow."""

    def flaky(msg: Number) -> int:
        stage.keep("flaky", msg)
        if len(stage.got("flaky")) < 3:
            raise BrokenError
        return msg.n

    client.task(name="flaky", retries=2)(flaky)
    assert await (await client.asign("flaky", n=5)).aio_run(timeout=10) == 5
    assert len(stage.got("flaky")) == 3


async def test_blocked_threads_do_not_hold_up_the_loop(client: Mageflow) -> None:
    """While plain functions block, coroutines of the same worker run."""
    go_on, inside = threading.Event(), threading.Event()

    def block() -> str:
        inside.set()
        assert go_on.wait(10)
        return "blocked"

    client.task(name="block")(block)
    handle = await (await client.asign("block")).aio_run_no_wait()
    await eventually(inside.is_set, "the thread runs")
    assert await (await client.asign("double", n=1)).aio_run(timeout=10) == 2
    go_on.set()
    assert await handle.result(10) == "blocked"
