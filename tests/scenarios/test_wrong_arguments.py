"""Every public call, with arguments that no call can take: each is named, and what was wanted, and nothing is done."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

import mageflow
from mageflow import Mageflow, MageflowConfig, SwarmConfig, TTLConfig
from mageflow.errors import InvalidArgumentError, NotSerialisableError, TaskNameError
from tests.scenarios.refusals import unchanged
from tests.scenarios.support import Server, Stage, nothing

Wrong = tuple[Any, ...]
NO_COUNT: Wrong = (None, -1, 1.5, math.nan, True, "", [])
NO_SECONDS: Wrong = (-1, math.nan, True, "", [], timedelta(seconds=1))
NO_LIST: Wrong = (123, math.nan, {}, b"echo", object())
NO_TASK: Wrong = (None, 123, -1.5, math.nan, True, "", [], {}, b"echo")
NO_MAPPING: Wrong = (123, math.nan, True, "", [])
NO_TEXT: Wrong = (123, math.nan, True, [], {})
NO_KEY: Wrong = (None, *NO_TEXT)
NO_MESSAGE: Wrong = (123, -1, math.nan, True, "", [], object)

Call = Callable[[Stage, Any], Awaitable[object]]


async def _of_swarm(stage: Stage, call: Callable[[mageflow.SwarmSignature[Any, Any]], Awaitable[object]]) -> object:
    found = await stage.client.load_signature(stage.messages["keys"][1])
    assert isinstance(found, mageflow.SwarmSignature)
    return await call(found)


async def _of_map(stage: Stage, call: Callable[[mageflow.MapSignature[Any, Any]], Awaitable[object]]) -> object:
    found = await stage.client.load_signature(stage.messages["keys"][2])
    assert isinstance(found, mageflow.MapSignature)
    return await call(found)  # pyright: ignore[reportUnknownArgumentType] - of any item


async def _of_task(stage: Stage, call: Callable[[mageflow.Signature[Any, Any]], Awaitable[object]]) -> object:
    found = await stage.client.load_signature(stage.messages["keys"][0])
    assert found is not None
    return await call(found)


async def _first(results: mageflow.ResultStream[Any]) -> object:
    return await anext(results)


CALLS: dict[str, tuple[Call, tuple[Any, ...], str]] = {
    "a member of a chain": (lambda s, x: s.client.achain(["echo", x]), NO_TASK, "member 1 of a chain"),
    "a member of a swarm": (lambda s, x: s.client.aswarm(["double", x]), NO_TASK, "member 1 of a swarm"),
    "a task": (lambda s, x: s.client.asign(x), NO_TASK[1:], "the task of a signature"),
    "a task by name": (lambda s, x: s.client.asign(task_name=x), NO_TASK[1:], "the task of a signature"),
    "success": (lambda s, x: s.client.asign("echo", success_callbacks=[x]), NO_TASK, "success callback 0 of a task"),
    "error": (lambda s, x: s.client.achain(["echo"] * 2, error=["echo", x]), NO_TASK, "error callback 1 of a chain"),
    "the task of a map": (lambda s, x: s.client.amap(x), NO_TASK, "the task of a map"),
    "a chooser": (lambda s, x: s.client.aswitch(x, {1: "echo"}), NO_TASK, "member 0 of a switch"),
    "a case": (lambda s, x: s.client.aswitch("double", {1: x}), NO_TASK, "member 1 of a switch"),
    "adding": (lambda s, x: _of_swarm(s, lambda w: w.add_task(x)), NO_TASK, "task 0 for a swarm"),
    "running in": (lambda s, x: _of_swarm(s, lambda w: w.aio_run_in_swarm(["echo", x])), NO_TASK, "task 1 for a swarm"),
    "tasks of a chain": (lambda s, x: s.client.achain(x), (None, *NO_LIST), "the tasks of a chain"),
    "tasks of a swarm": (lambda s, x: s.client.aswarm(x), NO_LIST, "the tasks of a swarm"),
    "tasks to add": (
        lambda s, x: _of_swarm(s, lambda w: w.aio_run_tasks_in_swarm(x, [])),
        (None, *NO_LIST),
        "tasks for",
    ),
    "messages": (
        lambda s, x: _of_swarm(s, lambda w: w.aio_run_tasks_in_swarm(["echo"], x)),
        (None, *NO_LIST),
        "messages for",
    ),
    "cases": (lambda s, x: s.client.aswitch("double", x), (None, *NO_MAPPING), "the cases of a switch"),
    "items": (lambda s, x: s.client.amap("double", x), ("", *NO_LIST), "the items of a map"),
    "more items": (lambda s, x: _of_map(s, lambda m: m.add_items(x)), (None, "", *NO_LIST), "the items of map"),
    "no item": (lambda s, x: _of_map(s, lambda m: m.add_items([x])), (None,), "item 0 of map"),
    "waiting": (lambda s, x: _of_map(s, lambda m: m.add_items([], max_waiting=x)), NO_COUNT[1:], "max_waiting"),
    "first": (lambda s, x: _of_map(s, lambda m: m.add_items([], first=x)), NO_COUNT, "first"),
    "index": (lambda s, x: _of_map(s, lambda m: m.item(x)), NO_COUNT, "the index of an item"),
    "stream": (lambda s, x: _of_map(s, lambda m: _first(m.results(x))), NO_COUNT, "the start of a stream"),
    "after": (lambda s, x: _of_swarm(s, lambda w: w.members(after=x)), NO_COUNT, "after"),
    "limit": (lambda s, x: _of_swarm(s, lambda w: w.members(limit=x)), NO_COUNT, "limit"),
    "status": (lambda s, x: _of_swarm(s, lambda w: w.members(x)), NO_TASK[1:], "the status of members"),
    "copies": (lambda s, x: _of_task(s, lambda t: t.aduplicate_many(x)), NO_COUNT, "the number of copies"),
    "time-out of a run": (lambda s, x: _of_task(s, lambda t: t.aio_run(timeout=x)), NO_SECONDS, "timeout"),
    "time-out": (lambda s, x: _of_task(s, lambda t: t.handle.result(x)), NO_SECONDS, "timeout"),
    "pause": (lambda s, x: _of_task(s, lambda t: t.pause_task(x)), NO_TASK, "the type of a pause"),
    "kwargs": (lambda s, x: s.client.asign("echo", kwargs=x), NO_MAPPING, "kwargs"),
    "identifiers": (lambda s, x: s.client.asign("echo", task_identifiers=x), NO_MAPPING, "task_identifiers"),
    "options": (lambda s, x: s.client.asign("echo", options=x), NO_MAPPING, "the options of"),
    "options of a run": (lambda s, x: _of_task(s, lambda t: t.aio_run_no_wait(options=x)), NO_MAPPING, "the options"),
    "update": (lambda s, x: _of_task(s, lambda t: t.kwargs.aupdate(x)), NO_MAPPING, "the arguments of"),
    "pop": (lambda s, x: _of_task(s, lambda t: t.kwargs.apop(x)), NO_TEXT, "the name of an argument"),
    "model": (lambda s, x: s.client.asign("echo", model_validators=x), (*NO_MAPPING, object), "model_validators"),
    "name of a chain": (lambda s, x: s.client.achain(["echo", "echo"], x), NO_TEXT, "the name of a chain"),
    "name of a swarm": (lambda s, x: s.client.aswarm(["echo"], x), NO_TEXT, "the name of a swarm"),
    "name of a switch": (lambda s, x: s.client.aswitch("double", {1: "echo"}, name=x), NO_TEXT, "the name of a switch"),
    "load": (lambda s, x: s.client.load_signature(x), NO_KEY, "a key"),
    "why": (lambda s, x: s.client.why(x), NO_KEY, "a key"),
    "pause by key": (lambda s, x: s.client.pause(x), NO_KEY, "a key"),
    "resume by key": (lambda s, x: s.client.resume(x), NO_KEY, "a key"),
    "interrupt by key": (lambda s, x: s.client.interrupt(x), NO_KEY, "a key"),
    "cancel by key": (lambda s, x: s.client.cancel(x), NO_KEY, "a key"),
    "remove by key": (lambda s, x: s.client.remove(x), NO_KEY, "a key"),
}
"""The call, what it cannot take, and what the error names."""


@pytest.mark.parametrize("name", CALLS)
async def test_argument_that_no_call_can_take(idle: Stage, server: Server, name: str) -> None:
    """It is refused by its place, with what was wanted, and nothing is written."""
    client = idle.client
    made = [await client.asign("echo"), await client.aswarm(["echo"]), await client.amap("double")]
    idle.messages["keys"] = [signature.key for signature in made]
    call, wrong, named = CALLS[name]
    for value in wrong:
        with unchanged(server), pytest.raises(InvalidArgumentError, match=f"^{named}.*expected .*, not") as caught:
            await call(idle, value)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, TypeError)


async def test_message_that_is_none(idle: Stage) -> None:
    """A message of a wrong type is refused by the place of it."""
    signature, swarm = await idle.client.asign("echo"), await idle.client.aswarm()
    mapped = await idle.client.amap("double")
    for value in NO_MESSAGE:
        with pytest.raises(NotSerialisableError, match=f"the message of {signature.key}"):
            await signature.aio_run_no_wait(value)
        with pytest.raises(NotSerialisableError, match=f"message 1 for swarm {swarm.key}"):
            await swarm.aio_run_tasks_in_swarm(["echo", "echo"], [{}, value])
        with pytest.raises(NotSerialisableError, match=f"item 1 of map {mapped.key}"):
            await mapped.add_items([{"n": 1}, value])


async def test_signature_that_was_not_awaited(idle: Stage) -> None:
    """A coroutine in the place of a signature is the commonest slip: the error says what to do."""
    with pytest.raises(InvalidArgumentError, match=r"member 1 of a chain.*await it first"):
        await idle.client.achain(["echo", idle.client.asign("echo")])


def test_declarations(redis_url: str) -> None:
    """Decorators and the client itself name what they cannot take."""
    client: Any = Mageflow(redis_client=redis_url)
    calls: dict[str, tuple[Callable[[Any], object], tuple[Any, ...]]] = {
        "the name of a task": (lambda x: client.task(x)(nothing), (1, math.nan, [])),
        "retries of task 't'": (lambda x: client.task("t", retries=x), NO_COUNT),
        "execution_timeout of task 't'": (
            lambda x: client.task("t", execution_timeout=x),
            (0, *NO_SECONDS[:-1], timedelta(0), "0s", "1", "1 s", "s", "-1s", "1.5w"),
        ),
        "input_validator of task 't'": (lambda x: client.task("t", input_validator=x), NO_MAPPING),
        "what a decorator stands above": (client.with_ctx, (None, *NO_TEXT)),
        "wait_delta": (client.stagger_execution, (None, 1, math.nan, timedelta(seconds=-1))),
        "expected_params": (mageflow.handle_task_callback, NO_KEY),
        "redis_client": (lambda x: Mageflow(None, x), (123, "", [], object())),
        "param_config": (lambda x: Mageflow(None, redis_url, x), NO_TEXT),
        "config": (lambda x: Mageflow(None, redis_url, None, x), ("", *NO_TEXT)),
    }
    for named, (call, wrong) in calls.items():
        for value in wrong:
            with pytest.raises(InvalidArgumentError, match=f"^{named}.*expected .*, not"):
                call(value)
    for value in (*NO_KEY, "", "mf:x"):
        with pytest.raises(TaskNameError):
            mageflow.register_task(value)


async def test_slots_of_a_worker(idle: Stage) -> None:
    """A worker runs at least one task at a time."""
    for value in (0, *NO_COUNT):
        with pytest.raises(InvalidArgumentError, match=r"^slots: expected a whole number, 1 or more"):
            async with idle.client.worker(slots=value):
                pass


@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, "", []])
def test_settings(value: Any) -> None:
    """Settings are checked once, where they are made; each error names the field."""
    lifetimes = ("active_ttl", "done_ttl", "suspended_ttl")
    numbers = ("inline_limit", "payload_limit")
    swarm = ("max_concurrency", "stop_after_n_failures", "max_task_allowed")
    for kind, names in ((TTLConfig, lifetimes), (MageflowConfig, numbers), (SwarmConfig, swarm)):
        for name in names:
            with pytest.raises(ValidationError, match=name):
                kind.model_validate({name: value})
