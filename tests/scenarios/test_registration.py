"""How functions become tasks: names, models, parameters, what a decorated function still is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from pydantic import BaseModel
from taskiq import AsyncTaskiqDecoratedTask

from mageflow import AcceptParams, Mageflow, MageflowConfig
from mageflow.errors import FlowFailedError, InvalidMessageError, TaskNameError, UnrecognizedTaskError
from tests.conftest import MakeClient
from tests.scenarios.support import Message, Number, Stage, nothing


async def run(client: Mageflow, name: str, message: Mapping[str, Any] | BaseModel | None = None) -> object:
    """Run a task by its name and return its result."""
    return await (await client.asign(name)).aio_run(message, timeout=10)


async def test_name_is_the_function_s_unless_given(client: Mageflow) -> None:
    """`@client.task`, `@client.task()` and `@client.task(name=...)` register under the function's or the given name."""

    @client.task
    async def bare() -> str:
        return "bare"

    @client.task()
    async def called() -> str:
        return "called"

    @client.task("positional")
    async def first() -> str:
        return "positional"

    @client.task(name="keyword")
    async def second() -> str:
        return "keyword"

    for name in ("bare", "called", "positional", "keyword"):
        assert await run(client, name) == name
    for name in ("first", "second"):
        with pytest.raises(UnrecognizedTaskError):
            await client.asign(name)
    assert (await client.asign(first)).task_name == "positional"


async def test_model_is_the_annotation_of_the_first_parameter(client: Mageflow) -> None:
    """A first parameter annotated with a model takes the validated message, whatever it is called."""

    @client.task()
    async def take(anything: Number) -> list[object]:
        return [type(anything).__name__, anything.n]

    assert await run(client, "take", {"n": "3"}) == ["Number", 3]


async def test_input_validator_comes_first(client: Mageflow) -> None:
    """`input_validator=` is the model, whatever the annotation says."""

    @client.task(input_validator=Number)
    async def take(msg: Any) -> list[object]:
        return [type(msg).__name__, msg.n]

    with pytest.raises(InvalidMessageError, match="'n'"):
        await client.asign("take", n="many")
    assert await run(client, "take", {"n": 3}) == ["Number", 3]


def _mapping(values: dict[str, Any]) -> object:
    return values


def _anything(message: Any) -> object:
    return message


def _typed_mapping(values: Mapping[str, int]) -> object:
    return dict(values)


def _by_name(a: int, b: str = "b", *, c: list[int] | None = None) -> object:
    return [a, b, c]


def _rest(a: int, **rest: object) -> object:
    return [a, rest]


def _untyped(a, b=2):  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType] - users write so
    return [a, b]  # pyright: ignore[reportUnknownVariableType] - as above


def _none() -> object:
    return []


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_mapping, {"a": 1, "x": [2]}),
        (_typed_mapping, {"a": 1, "x": [2]}),
        (_anything, {"a": 1, "x": [2]}),
        (_by_name, [1, "b", None]),
        (_rest, [1, {"x": [2]}]),
        (cast("Callable[..., object]", _untyped), [1, 2]),
        (_none, []),
    ],
)
async def test_fields_go_to_parameters(client: Mageflow, function: Callable[..., object], expected: object) -> None:
    """A mapping takes the whole message; else fields go to parameters by name, defaults and unknown fields included."""
    client.task(name="take")(function)
    assert await run(client, "take", {"a": 1, "x": [2]}) == expected


async def test_parameters_by_name_are_validated(client: Mageflow) -> None:
    """Wrong and missing parameters are named at the call."""

    @client.task()
    async def take(a: int, model: Number) -> int:
        return a + model.n

    assert await run(client, "take", {"a": "1", "model": {"n": 2}}) == 3
    with pytest.raises(InvalidMessageError, match="'model'"):
        await run(client, "take", {"a": 1})
    with pytest.raises(InvalidMessageError, match=r"'model\.n'"):
        await client.asign("take", model={"n": "many"})


@pytest.mark.parametrize("accepts", [AcceptParams.JUST_MESSAGE, AcceptParams.NO_CTX])
async def test_functions_take_the_message_alone(redis_url: str, namespace: str, accepts: AcceptParams) -> None:
    """With `JUST_MESSAGE` and `NO_CTX`, of the client or of its settings, a task gets the message alone."""
    clients = [
        Mageflow(redis_client=redis_url, param_config=accepts, config=MageflowConfig(namespace=namespace)),
        Mageflow(redis_client=redis_url, config=MageflowConfig(namespace=namespace, param_config=accepts)),
    ]
    for client in clients:
        assert client.config.param_config is accepts

        @client.task()
        async def take(*args: Any, **kwargs: Any) -> int:
            return len(args) + len(kwargs)

        @client.task()
        async def take_message(msg: Number) -> int:
            return msg.n

        async with client.worker():
            assert await run(client, "take_message", {"n": 5}) == 5
            assert await run(client, "take", {"n": 5}) == 1


async def test_default_is_without_a_context(client: Mageflow) -> None:
    """A client takes `NO_CTX` unless told otherwise."""
    assert client.config.param_config is AcceptParams.NO_CTX


async def test_task_outside_a_flow_behaves_as_without_mageflow(stage: Stage, client: Mageflow) -> None:
    """A decorated function can be called directly and sent by the manager's own means; errors are its own."""

    async def triple(msg: Number) -> int:
        if msg.n < 0:
            raise LookupError(msg.n)
        return msg.n * 3

    task: AsyncTaskiqDecoratedTask[Any, Any] = client.task(name="triple")(triple)
    assert await task(Number(n=2)) == 6
    with pytest.raises(LookupError):
        await task(Number(n=-1))
    sent = await task.kiq(Number(n=3))
    result = await sent.wait_result(timeout=10)
    assert (result.is_err, result.return_value) == (False, 9)
    failed = await (await task.kiq(Number(n=-1))).wait_result(timeout=10)
    assert failed.is_err
    assert await run(client, "triple", {"n": 4}) == 12


async def test_task_calls_another_as_a_function(client: Mageflow) -> None:
    """Inside a task of a flow, calling a task - another, or itself - is a call of its function, coroutine or plain."""

    @client.task(name="inner")
    async def inner(n: int) -> int:
        return n + 1

    @client.task(name="plain")
    def plain(n: int) -> int:
        return n * 10

    @client.task(name="outer")
    async def outer(n: int) -> int:
        return await inner(n) + plain(n) + (await outer(n - 1) if n else 0)

    assert await run(client, "outer", {"n": 2}) == (3 + 20) + (2 + 10) + 1


async def test_attributes_of_the_manager_are_those_of_the_client(client: Mageflow) -> None:
    """What the client does not have itself is the task manager's."""
    assert client.find_task("echo").task_name == "echo"
    with pytest.raises(AttributeError, match="no_such_thing"):
        client.no_such_thing  # noqa: B018 - the look-up is the test


async def test_name_of_a_task_is_checked(idle: Stage) -> None:
    """A name that is empty, taken or starts with `mf:` is refused at the decorator; nothing is registered."""
    client = idle.client
    for name in ("", "mf:task", "echo"):
        with pytest.raises(TaskNameError, match=repr(name)) as caught:
            client.task(name=name)(nothing)
        assert isinstance(caught.value, ValueError)
    assert (await client.asign(idle.echo)).task_name == "echo"


async def test_task_declared_while_the_client_is_open(client: Mageflow, make_client: MakeClient) -> None:
    """A task that is declared late is known at once here, and soon in other processes."""

    @client.task()
    async def late(n: int) -> int:
        return n + 1

    assert await run(client, "late", {"n": 1}) == 2
    other = make_client()
    try:
        assert await run(other, "late", {"n": 2}) == 3
    finally:
        await other.shutdown()


async def test_worker_that_lacks_a_task_does_not_lose_it(idle: Stage, make_client: MakeClient) -> None:
    """A run that only a worker without its function takes is offered again, and runs when one that has it lives."""
    other = make_client()

    async def rare(n: int) -> int:
        return n

    other.task(name="rare")(rare)
    await other.startup()
    async with idle.client.worker():
        handle = await (await idle.client.asign("rare", n=1)).aio_run_no_wait()
        assert await (await idle.client.asign("double", n=1)).aio_run(timeout=10) == 2
    async with other.worker():
        assert await handle.result(15) == 1
    await other.shutdown()


async def test_function_of_another_client_is_not_known(stage: Stage) -> None:
    """A function that nobody registered here is refused by its name."""

    def stranger() -> None:
        return None

    with pytest.raises(UnrecognizedTaskError, match="stranger"):
        await stage.client.asign(stranger)


async def test_failure_of_a_task_without_an_annotation(client: Mageflow) -> None:
    """What a task without a return annotation returns is taken as it is."""

    async def anything(msg: Message):
        return {"given": msg}

    client.task(name="anything")(anything)
    assert await run(client, "anything", {"a": (1, 2)}) == {"given": {"a": [1, 2]}}
    with pytest.raises(FlowFailedError):
        await run(client, "fail")
