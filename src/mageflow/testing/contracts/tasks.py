"""The tasks of the suite: every worker of a test has them, in whichever process. They tell the ledger what they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

import mageflow
from mageflow import ErrorValue, Mageflow, NonRetryableError, ReturnValue
from mageflow.testing.contracts.ledger import Ledger

Function = TypeVar("Function", bound=Callable[..., Any])
RETRIES = 2
"""Further attempts of the tasks that have any."""
TIME_LIMIT = 1
"""Seconds that `hurry` may take; whole, for managers that know no less."""


class Sum(BaseModel):
    """A message that is a model."""

    a: int
    b: int = 1


class Trial(BaseModel):
    """What is to fail so often before it succeeds."""

    name: str
    failures: int = 0


class Step(BaseModel):
    """A return value, and what to append to it."""

    text: ReturnValue[str]
    more: str = "."


class Failure(BaseModel):
    """What an error callback gets: the message of what failed, and the error."""

    model_config = ConfigDict(extra="allow")

    error: ErrorValue


class BrokenError(Exception):
    """What tasks raise that are to fail."""


class OddError(BaseException):
    """No `Exception`: what a library may raise to get past every handler."""


ODD_ERRORS: dict[str, Callable[[], BaseException]] = {
    "CancelledError": asyncio.CancelledError,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "OddError": lambda: OddError("odd"),
    "StopIteration": StopIteration,
}


class Tasks:
    """The functions of the suite by name, and what a client made of them."""

    def __init__(self, client: Mageflow) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.made: dict[str, Any] = {}
        self._client = client

    def task(self, name: str, **options: Any) -> Callable[[Function], Function]:
        """Register a function."""

        def decorate(function: Function) -> Function:
            self.functions[name] = function
            self.made[name] = self._client.task(name=name, **options)(function)
            return function

        return decorate


def register_tasks(client: Mageflow, ledger: Ledger) -> Tasks:
    """Register the tasks of the suite with a client."""
    tasks = Tasks(client)
    for register in (
        _register_messages,
        _register_results,
        _register_failures,
        _register_waiting,
        _register_makers,
        _register_outside,
    ):
        register(tasks, ledger)
    return tasks


def _register_messages(tasks: Tasks, ledger: Ledger) -> None:
    @tasks.task("echo")
    async def echo(msg: dict[str, Any]) -> dict[str, Any]:
        ledger.note("echo", msg)
        return msg

    @tasks.task("hello")
    async def hello() -> str:
        ledger.note("hello", ledger.worker)
        return ledger.worker

    @tasks.task("add")
    async def add(message: Sum) -> int:
        ledger.note("add", message.model_dump())
        return message.a + message.b

    @tasks.task("fields")
    async def fields(text: str, times: int = 1, *, end: str = "") -> str:
        return text * times + end

    @tasks.task("append")
    async def append(message: Step) -> str:
        ledger.note("append", message.model_dump())
        return message.text + message.more


def _register_results(tasks: Tasks, ledger: Ledger) -> None:
    @tasks.task("give")
    async def give(value: Any = None) -> Any:
        return value

    @tasks.task("model")
    async def model(a: int) -> Sum:
        return Sum(a=a)

    @tasks.task("wrong", retries=RETRIES)
    async def wrong() -> int:
        ledger.note("wrong", "ran")
        return "three"  # pyright: ignore[reportReturnType] - the wrong type is the point

    @tasks.task("large")
    async def large(size: int) -> str:
        return "x" * size

    @tasks.task("measure")
    async def measure(mageflow_results: Any) -> int:
        ledger.note("measure", len(mageflow_results))
        return len(mageflow_results)


def _register_failures(tasks: Tasks, ledger: Ledger) -> None:
    @tasks.task("fail")
    async def fail(msg: dict[str, Any]) -> None:
        ledger.note("fail", msg)
        raise BrokenError(msg.get("text", "broken"))

    @tasks.task("flaky", retries=RETRIES)
    async def flaky(name: str, failures: int) -> str:
        ledger.note("flaky", name)
        attempt = ledger.count("flaky", name)
        if attempt <= failures:
            raise BrokenError(f"{name} fails for the {attempt}. time")
        return name

    @tasks.task("fatal", retries=RETRIES)
    async def fatal(name: str) -> None:
        ledger.note("fatal", name)
        raise NonRetryableError("there is no point")

    @tasks.task("odd")
    async def odd(kind: str) -> None:
        ledger.note("odd", kind)
        error = ODD_ERRORS[kind]()
        raise error

    @tasks.task("odd-thread")
    def odd_thread(kind: str) -> None:
        ledger.note("odd-thread", kind)
        error = ODD_ERRORS[kind]()
        raise error

    @tasks.task("on-error")
    async def on_error(message: Failure) -> None:
        ledger.note("on-error", message.model_dump())

    @tasks.task("on-success")
    async def on_success(mageflow_results: Any, label: str = "") -> str:
        ledger.note("on-success", [label, mageflow_results])
        return label


def _register_waiting(tasks: Tasks, ledger: Ledger) -> None:
    async def hold(task: str, gate: str) -> str:
        ledger.note(task, f"{gate} started")
        try:
            await ledger.wait_at(gate)
        except asyncio.CancelledError:
            ledger.note(task, f"{gate} stopped")
            raise
        ledger.note(task, f"{gate} ended")
        return gate

    @tasks.task("wait")
    async def wait(gate: str) -> str:
        return await hold("wait", gate)

    @tasks.task("stubborn", retries=RETRIES)
    async def stubborn(gate: str) -> str:
        return await hold("stubborn", gate)

    @tasks.task("hurry", execution_timeout=TIME_LIMIT, retries=1)
    async def hurry(gate: str) -> str:
        return await hold("hurry", gate)

    def block_for(task: str, gate: str) -> str:
        ledger.note(task, f"{gate} started")
        ledger.block_at(gate)
        ledger.note(task, f"{gate} ended")
        return gate

    @tasks.task("block")
    def block(gate: str) -> str:
        return block_for("block", gate)

    @tasks.task("hurry-block", execution_timeout=TIME_LIMIT)
    def hurry_block(gate: str) -> str:
        return block_for("hurry-block", gate)

    @tasks.task("thread")
    def thread(text: str) -> list[Any]:
        return [text, threading.current_thread() is threading.main_thread()]


def _register_makers(tasks: Tasks, ledger: Ledger) -> None:
    @tasks.task("plan", retries=RETRIES)
    async def plan(name: str, failures: int = 0) -> str:
        parts = [await mageflow.asign("echo", name=name, part=part) for part in range(3)]
        swarm = await mageflow.aswarm(parts, is_swarm_closed=True)
        ledger.note("plan", name)
        await swarm.aio_run_no_wait()
        if ledger.count("plan", name) <= failures:
            raise BrokenError(name)
        return swarm.key


def _register_outside(tasks: Tasks, ledger: Ledger) -> None:
    """Register tasks to be called without a flow: one model in, one mapping out, as every task manager takes them."""

    @tasks.task("total")
    async def total(message: Sum) -> dict[str, int]:
        return {"total": message.a + message.b}

    @tasks.task("total-thread")
    def total_thread(message: Sum) -> dict[str, int]:
        return {"total": message.a + message.b}

    @tasks.task("trial", retries=RETRIES)
    async def trial(message: Trial) -> dict[str, int]:
        ledger.note("trial", message.name)
        attempt = ledger.count("trial", message.name)
        if attempt <= message.failures:
            raise BrokenError(f"{message.name} fails for the {attempt}. time")
        return {"attempts": attempt}


async def nothing() -> None:
    """Do nothing: for a task that no worker has."""
