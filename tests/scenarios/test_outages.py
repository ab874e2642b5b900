"""Who waits for a result goes on waiting while Redis does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mageflow import Mageflow, MageflowConfig
from mageflow.errors import ResultTimeoutError, StoreUnavailableError
from mageflow.store import store
from tests.eventually import eventually
from tests.relay import Relay, relay_to
from tests.scenarios.support import Stage


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives up during an outage gives up soon."""
    monkeypatch.setattr(store, "_RETRY_FOR", 0.05)


@pytest_asyncio.fixture
async def relay(redis_url: str) -> AsyncIterator[Relay]:
    """What stands between the caller and Redis."""
    async with relay_to(redis_url) as relay:
        yield relay


@pytest_asyncio.fixture
async def caller(relay: Relay, namespace: str, client: Mageflow) -> AsyncIterator[Mageflow]:
    """A client that starts and waits, behind the relay; the worker is another."""
    caller = Mageflow(redis_client=relay.url, config=MageflowConfig(namespace=namespace))
    yield caller
    await caller.shutdown()


async def outage(stage: Stage, relay: Relay, *gates: str) -> None:
    """Cut the relay for longer than any call is repeated; meanwhile tasks that wait at the gates end."""
    await eventually(lambda: stage.running == set(gates), "they run")
    relay.cut()
    stage.open(*gates)
    await eventually(lambda: not stage.running, "they end")
    await eventually(lambda: relay.turned_away > 6, "Redis was called in vain")
    relay.mend()


async def test_result_is_waited_for_through_an_outage(stage: Stage, relay: Relay, caller: Mageflow) -> None:
    """`result` and `aio_run`, with a time-out and without, awaited and from a thread, give the result after it."""
    tasks = [await caller.asign("wait", gate=gate) for gate in ("a", "b", "c")]
    started = await tasks[0].aio_run_no_wait()
    waiting = [asyncio.create_task(started.result()), asyncio.create_task(tasks[1].aio_run(timeout=20))]
    waiting.append(asyncio.create_task(asyncio.to_thread(_from_a_thread, caller, tasks[2].key)))
    await outage(stage, relay, "a", "b", "c")
    assert await asyncio.gather(*waiting) == ["a", "b", "c"]


def _from_a_thread(caller: Mageflow, key: str) -> object:
    signature = caller.sync.load_signature(key)
    assert signature is not None
    return signature.aio_run(timeout=20)


async def test_streams_go_on_after_an_outage(stage: Stage, relay: Relay, caller: Mageflow) -> None:
    """Results of a map come in both orders, none missing and none twice."""
    mapped = await caller.amap("wait", [{"gate": "a"}, {"gate": "b"}])
    await mapped.aio_run_no_wait()

    async def read(*, ordered: bool) -> list[object]:
        return [value async for value in mapped.results(ordered=ordered)]

    reading = [asyncio.create_task(read(ordered=ordered)) for ordered in (True, False)]
    await outage(stage, relay, "a", "b")
    assert [sorted(map(str, values)) for values in await asyncio.gather(*reading)] == [["a", "b"], ["a", "b"]]


async def test_time_out_counts_during_an_outage(stage: Stage, relay: Relay, caller: Mageflow) -> None:
    """A time-out that ends while Redis does not answer raises `ResultTimeoutError`; other calls name Redis."""
    signature = await caller.asign("wait", gate="a")
    handle = await signature.aio_run_no_wait()
    relay.cut()
    with pytest.raises(ResultTimeoutError, match=signature.key):
        await handle.result(0.5)
    with pytest.raises(StoreUnavailableError, match="no answer"):
        await handle.status()
    relay.mend()
    stage.open("a")
    assert await handle.result(10) == "a"


async def test_closed_client_is_no_outage(stage: Stage, relay: Relay, caller: Mageflow) -> None:
    """Who waits without a time-out on a client that is closed meanwhile is told so, and waits no more."""
    handle = await (await caller.asign("wait", gate="a")).aio_run_no_wait()
    waiting = asyncio.create_task(handle.result())
    await eventually(lambda: stage.running == {"a"}, "it runs")
    relay.cut()
    await eventually(lambda: relay.turned_away > 2, "Redis was called in vain")
    await caller.shutdown()
    with pytest.raises(StoreUnavailableError):
        await waiting
