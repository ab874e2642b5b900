"""Large values: results travel by reference above a size, and single payloads have a limit."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from pydantic import BaseModel
from typing_extensions import override

from mageflow import Mageflow, ReturnValue, Status
from mageflow.errors import FlowFailedError, PayloadTooLargeError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Message, Server, Stage

INLINE, LIMIT = 1_000, 8_000


class _Text(BaseModel):
    text: ReturnValue[str]


class _Texts(BaseModel):
    texts: ReturnValue[list[str]]


@pytest_asyncio.fixture
async def small(make_client: MakeClient) -> AsyncIterator[Stage]:
    """A stage whose limits are small, with tasks that make, count and refuse texts."""
    stage = Stage(make_client(inline_limit=INLINE, payload_limit=LIMIT))

    async def make(size: int) -> str:
        return "x" * size

    async def size_of(msg: _Text) -> int:
        stage.keep("size_of", msg)
        return len(msg.text)

    def thread_size_of(msg: _Text) -> int:
        return len(msg.text)

    async def sizes_of(msg: _Texts) -> list[int]:
        return [len(text) for text in msg.texts]

    async def refuse(msg: _Text) -> None:
        raise BrokenError

    for function in (make, size_of, thread_size_of, sizes_of, refuse):
        stage.client.task()(function)
    async with stage.client.worker():
        yield stage


@pytest.mark.parametrize("size", [10, INLINE - 2, INLINE - 1, INLINE, 6_000])
async def test_result_of_any_size_arrives_whole(small: Stage, size: int) -> None:
    """Below and above `inline_limit`, in a coroutine and in a thread, the next member gets the whole result."""
    for taker in ("size_of", "thread_size_of"):
        chain = await small.client.achain([await small.client.asign("make", size=size), taker])
        assert await chain.aio_run(timeout=10) == size
    assert await (await small.client.asign("make", size=size)).aio_run(timeout=10) == "x" * size


async def test_large_result_travels_by_reference(small: Stage, server: Server) -> None:
    """A large result is stored once: it is in no message of the queue."""
    chain = await small.client.achain([await small.client.asign("make", size=6_000), "size_of"])
    await chain.aio_run(timeout=10)
    holding = [key for key, value in server.dump().items() if "x" * 1_000 in repr(value)]
    assert [key.partition("}:")[2].partition(":")[0] for key in holding] == ["b"]


async def test_list_of_results_may_be_larger_than_any_limit(small: Stage) -> None:
    """The limit is for a single result: a swarm's list above it arrives whole, at a callback, a step and the caller."""
    client = small.client
    members = [await client.asign("make", size=5_000) for _ in range(12)]
    swarm = await client.aswarm(
        members, is_swarm_closed=True, success_callbacks=[await client.achain(["sizes_of", "note"])]
    )
    chain = await client.achain([await swarm.aduplicate(), "sizes_of"])
    assert await chain.aio_run(timeout=10) == [5_000] * 12
    assert await swarm.aio_run(timeout=10) == ["x" * 5_000] * 12
    await eventually(lambda: small.got("note") == [{"mageflow_results": [5_000] * 12}] * 2, "the callbacks ran")


async def test_large_result_reaches_every_member_of_a_swarm(small: Stage) -> None:
    """A large return value that enters a swarm reaches each member whole."""
    swarm = await small.client.aswarm(["size_of"] * 5, is_swarm_closed=True)
    chain = await small.client.achain([await small.client.asign("make", size=5_000), swarm])
    assert await chain.aio_run(timeout=10) == [5_000] * 5


async def test_error_callback_gets_the_large_value_of_the_failed_task(small: Stage) -> None:
    """The message of a task that failed on a large return value reaches its error callback whole."""
    failing = await small.client.asign("refuse", error_callbacks=["on_error"])
    chain = await small.client.achain([await small.client.asign("make", size=5_000), failing])
    with pytest.raises(FlowFailedError):
        await chain.aio_run(timeout=10)
    await eventually(lambda: len(small.got("on_error")) == 1, "the error callback ran")
    assert small.got("on_error")[0].model_extra == {"text": "x" * 5_000}


async def test_message_above_the_limit_is_refused(small: Stage, server: Server) -> None:
    """A message or argument above `payload_limit` is refused with its size; nothing is stored or started."""
    client = small.client
    signature, swarm = await client.asign("echo"), await client.aswarm()
    before = server.dump_of_flows()
    large: Message = {"text": "x" * LIMIT}
    calls: list[Any] = [
        lambda: signature.aio_run_no_wait(large),
        lambda: signature.kwargs.aupdate(large),
        lambda: client.asign("echo", **large),
        lambda: client.achain(["echo", "echo"], **large),
        lambda: client.aswarm(["echo"], **large),
        lambda: swarm.aio_run_in_swarm("echo", large),
        lambda: swarm.aio_run_no_wait(large),
    ]
    for call in calls:
        with pytest.raises(PayloadTooLargeError, match=str(LIMIT)) as caught:
            await call()
        assert caught.value.size > LIMIT
        assert str(caught.value.size) in str(caught.value)
    assert server.dump_of_flows() == before
    assert await signature.aio_run({"text": "x" * (LIMIT - 100)}, timeout=10)


async def test_result_above_the_limit_fails_the_task(small: Stage) -> None:
    """A result above `payload_limit` fails the task for good, without another attempt; the error names the task."""

    async def too_much(msg: Message) -> str:
        small.keep("too_much", msg)
        return "x" * LIMIT

    small.client.task(name="too-much", retries=3)(too_much)
    with pytest.raises(FlowFailedError, match="too-much") as caught:
        await (await small.client.asign("too-much")).aio_run(timeout=10)
    assert caught.value.type == "PayloadTooLargeError"
    assert len(small.got("too_much")) == 1


async def test_long_error_is_recorded_all_the_same(make_client: MakeClient) -> None:
    """An error whose text and traceback exceed the limit of payloads still ends the task."""
    stage = Stage(make_client(inline_limit=100, payload_limit=200))
    async with stage.client.worker():
        signature = await stage.client.asign("fail", error_callbacks=["on_error"])
        with pytest.raises(FlowFailedError, match="broken"):
            await signature.aio_run(timeout=5)
        await eventually(lambda: len(stage.got("on_error")) == 1, "the error callback ran")


class _UnprintableError(Exception):
    @override
    def __str__(self) -> str:
        raise BrokenError


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: BrokenError("no \udcff"), r"no \\udcff"), (_UnprintableError, "its text raised BrokenError")],
    ids=["surrogate", "unprintable"],
)
async def test_strange_error_is_recorded_all_the_same(
    stage: Stage,
    client: Mageflow,
    make: Callable[[], Exception],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error whose text JSON cannot hold, or that has none, ends the task like any other."""
    caplog.set_level(logging.CRITICAL, logger="taskiq")  # reports of test runs cannot hold the text either

    async def strange() -> None:
        raise make()

    client.task(name="strange")(strange)
    with pytest.raises(FlowFailedError, match=message):
        await (await client.asign("strange")).aio_run(timeout=5)


async def test_result_that_is_no_json_fails_the_task(stage: Stage, client: Mageflow) -> None:
    """A result that JSON cannot hold fails the task for good; the error names the task."""

    async def opaque(msg: Message) -> object:
        stage.keep("opaque", msg)
        return object()

    client.task(name="opaque", retries=3)(opaque)
    with pytest.raises(FlowFailedError, match="opaque") as caught:
        await (await client.asign("opaque")).aio_run(timeout=5)
    assert (caught.value.type, len(stage.got("opaque"))) == ("NotSerialisableError", 1)


async def test_default_limits(client: Mageflow) -> None:
    """By default results up to 256 KiB travel inline and payloads up to 4 MiB are taken."""
    assert (client.config.inline_limit, client.config.payload_limit) == (256 * 1024, 4 * 1024 * 1024)
    text = "x" * (2 * 1024 * 1024)
    chain = await client.achain([await client.asign("echo", text=text), "echo"])
    result = await chain.aio_run(timeout=10)
    assert result == {"mageflow_results": {"text": text}}
    with pytest.raises(PayloadTooLargeError):
        await client.asign("echo", text=text + text)
    assert await chain.handle.status() is Status.DONE
