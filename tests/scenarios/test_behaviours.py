"""What tasks get beside their message: a context, their signature, a delay."""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from taskiq import Context

import mageflow
from mageflow import AcceptParams, Mageflow, MageflowConfig, TaskSignature, handle_task_callback, registry
from mageflow.errors import DefinitionError, FlowFailedError, TaskNameError, UnrecognizedTaskError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Message, Number

Decorator = Callable[[Any], Any]


async def run(client: Mageflow, name: str, message: dict[str, Any] | None = None) -> Any:
    """Run a task by its name and return its result."""
    return await (await client.asign(name)).aio_run(message or {"n": 1}, timeout=10)


async def told(msg: Number, ctx: Context, signature: TaskSignature[Any, Any] | None) -> list[object]:
    """Say what came along with the message."""
    return [msg.n, ctx.message.task_name, signature and signature.task_name]


@pytest.mark.parametrize("order", list(itertools.permutations(["task", "ctx", "signature"])), ids="-".join)
async def test_decorators_stand_in_any_order(client: Mageflow, order: tuple[str, ...]) -> None:
    """`task`, `with_ctx` and `with_signature` mean the same in every order; the last returns what to sign."""
    decorators: dict[str, Decorator] = {
        "task": client.task(name="told"),
        "ctx": client.with_ctx,
        "signature": client.with_signature,
    }

    async def function(msg: Number, ctx: Context, signature: TaskSignature[Any, Any]) -> list[object]:
        return await told(msg, ctx, signature)

    task: Any = function
    for name in order:
        task = decorators[name](task)
    signature = await client.asign(task, n=3)
    assert await signature.aio_run(timeout=10) == [3, "told", "told"]
    assert await (await client.asign(function, n=4)).aio_run(timeout=10) == [4, "told", "told"]


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_signature_is_the_running_one(client: Mageflow, kind: str) -> None:
    """`with_signature` passes the task's own signature: key, identifiers, arguments, an effective status."""

    def describe(signature: TaskSignature[Any, Any]) -> list[object]:
        return [signature.key, signature.task_identifiers, dict(signature.kwargs), signature.task_status]

    async def coroutine(msg: Number, signature: TaskSignature[Any, Any]) -> list[object]:
        return describe(signature)

    def thread(msg: Number, signature: TaskSignature[Any, Any]) -> list[object]:
        return describe(signature)

    client.task(name="self")(client.with_signature(thread if kind == "thread" else coroutine))
    signed = await client.asign("self", n=2, task_identifiers={"order": "7"})
    assert await signed.aio_run(timeout=10) == [signed.key, {"order": "7"}, {"n": 2}, "active"]


async def test_keywords_take_the_signature(client: Mageflow) -> None:
    """A function with `**kwargs` takes its signature there, and it is no field of the message."""

    @client.task(name="open")
    @client.with_signature
    async def anything(**rest: Any) -> list[str]:
        return sorted([*rest, rest["signature"].task_name])

    assert await run(client, "open", {"n": 1}) == ["n", "open", "signature"]


async def test_outside_a_flow_there_is_no_signature(client: Mageflow) -> None:
    """A task that the manager runs outside any flow, or that is called directly, gets `None` as its signature."""

    @client.task(name="alone")
    @client.with_signature
    async def alone(msg: Number, signature: TaskSignature[Any, Any] | None) -> list[object]:
        return [msg.n, signature is None]

    assert await alone(Number(n=1)) == [1, True]
    sent = await (await alone.kiq(Number(n=2))).wait_result(timeout=10)
    assert sent.return_value == [2, True]


@pytest.mark.parametrize("accepts", AcceptParams)
async def test_params_of_the_client_say_what_functions_take(
    redis_url: str, namespace: str, accepts: AcceptParams
) -> None:
    """All pass the message, CTX_ONLY and ALL the context too, NO_CTX and ALL the signature where it is asked for."""
    client = Mageflow(redis_client=redis_url, config=MageflowConfig(namespace=namespace, param_config=accepts))

    async def function(msg: Message, *_: Any, **rest: Any) -> list[str]:
        return [*map(_kind, rest.values())]

    if accepts in {AcceptParams.CTX_ONLY, AcceptParams.ALL}:

        async def with_context(msg: Message, ctx: Context, **rest: Any) -> list[str]:
            return [*map(_kind, (ctx, *rest.values()))]

        client.task(name="function")(client.with_signature(with_context))
    else:
        client.task(name="function")(client.with_signature(function))
    expected = {
        AcceptParams.JUST_MESSAGE: [],
        AcceptParams.NO_CTX: ["TaskSignature"],
        AcceptParams.CTX_ONLY: ["Context"],
        AcceptParams.ALL: ["Context", "TaskSignature"],
    }
    async with client.worker():
        assert await run(client, "function", {"msg": {"n": 1}}) == expected[accepts]


def _kind(thing: object) -> str:
    return type(thing).__name__


async def test_function_without_a_place_for_its_signature_is_refused(client: Mageflow) -> None:
    """`with_signature` on a function that has no parameter for it is refused where it becomes a task."""

    async def narrow(msg: Number) -> None:
        return None

    with pytest.raises(DefinitionError, match=r"'narrow'.*'signature'"):
        client.task()(client.with_signature(narrow))


async def test_marks_survive_wrapping(client: Mageflow) -> None:
    """What was asked for a function holds for what `functools.wraps` made of it."""

    @client.with_signature
    async def inner(msg: Number, signature: TaskSignature[Any, Any]) -> str | None:
        return signature.task_name

    @functools.wraps(inner)
    async def outer(*args: Any, **kwargs: Any) -> str | None:
        return await inner(*args, **kwargs)

    client.task(name="wrapped")(outer)
    assert await run(client, "wrapped") == "wrapped"


async def test_marks_of_one_client_mean_nothing_to_another(client: Mageflow, make_client: MakeClient) -> None:
    """Nothing is kept on the function itself: another client takes it as it is."""

    async def either(msg: Number, signature: object = "none") -> str:
        return _kind(signature)

    client.task(name="either")(client.with_signature(either))
    other = make_client()
    other.task(name="plain")(either)
    assert await run(client, "either") == "TaskSignature"
    async with other.worker():
        assert await run(other, "plain") == "str"
    assert vars(either) == {}


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_staggered_task_waits_and_says_so(client: Mageflow, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """`stagger_execution` delays within its bounds, logs the delay, and the limit of the task starts after it."""
    caplog.set_level(logging.INFO, "mageflow.run")

    async def coroutine(msg: Number) -> int:
        return msg.n

    def thread(msg: Number) -> int:
        return msg.n

    function = thread if kind == "thread" else coroutine
    decorate = client.stagger_execution(wait_delta=timedelta(seconds=0.4))
    client.task(name="slow", execution_timeout=None if kind == "thread" else 0.05)(decorate(function))
    swarm = await client.aswarm(["slow"] * 8, is_swarm_closed=True)
    assert await swarm.aio_run({"n": 5}, timeout=10) == [5] * 8
    found = [re.search(r"random delay of (\S+) s", record.getMessage()) for record in caplog.records]
    delays = [float(match[1]) for match in found if match]
    assert len(delays) == 8
    assert len(set(delays)) > 1
    assert all(0 <= delay <= 0.4 for delay in delays)


async def test_time_limit_holds_after_the_delay(client: Mageflow) -> None:
    """The delay extends the limit by no more than itself: code that overruns its limit fails."""

    @client.task(name="overrun", execution_timeout=0.2)
    @client.stagger_execution(wait_delta=timedelta(seconds=0.1))
    async def overrun(msg: Number) -> None:
        await eventually(lambda: False, "never", 5)

    with pytest.raises(FlowFailedError) as caught:
        await run(client, "overrun")
    assert caught.value.type == "TimeoutError"


async def test_interrupt_reaches_a_task_in_its_delay(client: Mageflow) -> None:
    """A task that is stopped while it waits to begin does not begin."""
    begun: list[int] = []

    @client.task(name="patient")
    @client.stagger_execution(wait_delta=timedelta(hours=1))
    async def patient(msg: Number) -> None:
        begun.append(msg.n)

    signature = await client.asign("patient", n=1)
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: _is(handle, "active"), "it waits")
    await signature.cancel()
    await eventually(lambda: _is(handle, "canceled"), "it is canceled")
    assert begun == []


async def _is(handle: mageflow.FlowHandle[Any], status: str) -> bool:
    return await handle.status() == status


async def test_durable_task_is_a_task_where_there_are_none(client: Mageflow) -> None:
    """`durable_task` takes what `task` takes and makes a task."""

    @client.durable_task(name="durable", retries=1, execution_timeout=timedelta(seconds=5), input_validator=Number)
    async def durable(msg: Any) -> int:
        return msg.n + 1

    @client.durable_task
    async def bare(n: int) -> int:
        return n + 2

    assert await run(client, "durable") == 2
    assert await (await client.asign(bare, n=1)).aio_run(timeout=10) == 3


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares before its clients is forgotten after it."""
    monkeypatch.setattr(registry, "_declared", {})


@pytest.mark.usefixtures("declared")
async def test_functions_declared_before_a_client_become_its_tasks(
    make_client: MakeClient, redis_url: str, second_namespace: str
) -> None:
    """`register_task` binds to each client at its worker's start: then its name, and the function, can be signed."""

    @mageflow.register_task("early", retries=1)
    @handle_task_callback()
    async def early(message: Number) -> int:
        return message.n * 2

    other = Mageflow(redis_client=redis_url, config=MageflowConfig(namespace=second_namespace))
    for client in (make_client(), other):
        with pytest.raises(UnrecognizedTaskError, match="early"):
            await client.asign(early)
        async with client.worker():
            assert await run(client, "early") == 2
            assert await (await client.asign(early, n=4)).aio_run(timeout=10) == 8
            task = client.find_task("early")
            assert task is not None
            assert task.labels["max_retries"] == 2
        await client.shutdown()
    assert await early(Number(n=1)) == 2


@pytest.mark.usefixtures("declared")
async def test_declared_name_is_signed_in_a_process_that_runs_no_worker(make_client: MakeClient) -> None:
    """Once a worker of the namespace ran, a client without one signs the function by itself, and by its name."""

    @mageflow.register_task("shared")
    async def shared(n: int) -> int:
        return n

    worker, web = make_client(), make_client()
    async with worker.worker():
        for thing in (shared, "shared"):
            assert await (await web.asign(thing, n=6)).aio_run(timeout=10) == 6
        assert (await web.achain([shared, "shared"], n=1)).key
    await web.shutdown()


@pytest.mark.usefixtures("declared")
async def test_handle_task_callback_says_how_a_function_is_called(make_client: MakeClient) -> None:
    """Its `expected_params` win over the client's, `send_signature` passes the signature, whoever declares the task."""

    @mageflow.register_task("both")
    @handle_task_callback(AcceptParams.ALL, send_signature=True)
    async def both(message: Number, ctx: Context, signature: TaskSignature[Any, Any]) -> list[object]:
        return await told(message, ctx, signature)

    @handle_task_callback(expected_params=AcceptParams.CTX_ONLY, wrap_res=False)
    async def context(message: Number, ctx: Context) -> str:
        return ctx.message.task_name

    client = make_client()
    client.task(name="context")(context)
    async with client.worker():
        assert await run(client, "both") == [1, "both", "both"]
        assert await run(client, "context") == "context"


@pytest.mark.usefixtures("declared")
async def test_declared_names_are_unique(make_client: MakeClient) -> None:
    """A second function under a declared name is refused at once, one that the client has at its worker's start."""

    async def first(n: int) -> int:
        return n

    mageflow.register_task("one")(first)
    with pytest.raises(TaskNameError, match=r"'one'.*first"):
        mageflow.register_task("one")(told)
    client = make_client()
    client.task(name="one")(told)
    with pytest.raises(TaskNameError, match="'one'"):
        async with client.worker():
            pass


@pytest.mark.usefixtures("declared")
async def test_module_that_is_loaded_again_declares_the_same(client: Mageflow) -> None:
    """The same function of the same module may be declared again: the later one counts."""

    def make(result: int) -> Callable[[], int]:
        @mageflow.register_task("again")
        def again() -> int:
            return result

        return again

    make(1)
    make(2)
    client.adopt_declared()
    assert await run(client, "again", {}) == 2
