"""The tasks of the suite of Hatchet, as its users write them."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Annotated, Any

from hatchet_sdk import Context, Depends, DurableContext
from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, ReturnValue


class Number(BaseModel):
    """A message of one number."""

    n: int = 0


class Named(BaseModel):
    """A message with a name to take notes under."""

    name: str
    raises: bool = False


class Previous(BaseModel):
    """The result before."""

    value: ReturnValue[int]


class Notes:
    """What tasks of this process noted, by any name."""

    def __init__(self) -> None:
        self._notes: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, what: object) -> None:
        """Note something."""
        with self._lock:
            self._notes.setdefault(name, []).append(what)

    def of(self, name: str) -> list[Any]:
        """Return what was noted under a name."""
        with self._lock:
            return list(self._notes.get(name, ()))


def needs(input: Number, ctx: Context) -> str:  # noqa: A002 - Hatchet's names
    """A dependency that fails for negative numbers."""
    if input.n < 0:
        text = "the dependency fails"
        raise ValueError(text)
    return f"dependency of {input.n}"


def register(client: Mageflow, notes: Notes) -> dict[str, Any]:
    """Register the tasks; returns what the client made of them."""
    return {**_register_quick(client), **_register_slow(client, notes)}


def _register_quick(client: Mageflow) -> dict[str, Any]:
    @client.task(name="double")
    async def double(message: Number) -> int:
        return message.n * 2

    @client.task(name="plus-one")
    async def plus_one(message: Previous) -> int:
        return message.value + 1

    @client.task(name="look", input_validator=Number, retries=1)
    async def look(message: Number, ctx: Context) -> dict[str, Any]:
        return {
            "n": message.n,
            "run": ctx.workflow_run_id,
            "metadata": ctx.additional_metadata,
            "priority": ctx.priority,
            "parent": ctx.parent_workflow_run_id,
            "lifespan": ctx.lifespan,
        }

    @client.task(name="parent")
    async def parent(message: Number) -> dict[str, Any]:
        one = await double.aio_run(Number(n=message.n))
        two = await look.aio_run(Number(n=message.n))
        return {"double": one, "look": two}

    @client.task(name="depend", input_validator=Number)
    async def depend(message: Number, ctx: Context, got: Annotated[str, Depends(needs)]) -> dict[str, Any]:
        return {"got": got, "attempt": ctx.attempt_number}

    return {"parent": parent, "double": double, "plus-one": plus_one, "look": look, "depend": depend}


def _register_slow(client: Mageflow, notes: Notes) -> dict[str, Any]:
    @client.task(name="sleep", on_events=["sleep:asked"])
    async def sleep(name: str, seconds: float = 60.0) -> str:
        notes.add(name, "started")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            notes.add(name, "canceled")
            raise
        return name

    @client.task(name="sleep-thread")
    def sleep_thread(name: str, seconds: float = 3.0) -> str:
        notes.add(name, "started")
        time.sleep(seconds)
        notes.add(name, "returned")
        return name

    @client.task(name="leave", input_validator=Named, retries=1, execution_timeout="2s", schedule_timeout="5m")
    def leave(message: Named, ctx: Context) -> str:
        notes.add(message.name, "started")
        while not ctx.is_cancelled:
            time.sleep(0.01)
        notes.add(message.name, "left")
        if message.raises:
            raise RuntimeError
        return message.name

    @client.durable_task(name="plan", input_validator=Number)
    async def plan(message: Number, ctx: DurableContext) -> dict[str, Any]:
        parts = [await mageflow.asign("double", n=message.n + part) for part in range(2)]
        swarm = await mageflow.aswarm(parts, is_swarm_closed=True)
        handle = await swarm.aio_run_no_wait()
        await ctx.aio_sleep_for(timedelta(seconds=1))
        notes.add(f"plan {message.n}", ctx.invocation_count)
        return {"key": swarm.key, "results": await handle.result(20)}

    @client.task(name="plan-again", input_validator=Number, retries=1)
    async def plan_again(message: Number) -> dict[str, Any]:
        signature = await mageflow.asign("double", n=message.n)
        handle = await signature.aio_run_no_wait()
        notes.add("plan again", signature.key)
        if len(notes.of("plan again")) < 2:
            raise RuntimeError
        return {"key": signature.key, "result": await handle.result(20)}

    return {"plan-again": plan_again, "plan": plan, "sleep": sleep, "sleep-thread": sleep_thread}
