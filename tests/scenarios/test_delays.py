"""Starts at a later time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mageflow import Mageflow, Status
from mageflow.errors import AlreadyStartedError, FlowCanceledError, IllegalMoveError, InvalidArgumentError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.refusals import Calls, refused
from tests.scenarios.support import Server
from tests.scenarios.test_steering import Steered, steered

__all__ = ["steered"]

SOON = timedelta(seconds=0.3)
HOUR = timedelta(hours=1)


def _now(server: Server) -> datetime:
    seconds, microseconds = server.connection.time()
    return datetime.fromtimestamp(seconds, tz=UTC) + timedelta(microseconds=microseconds)


async def _waits_on(client: Mageflow, key: str) -> str | None:
    wait = await client.why(key)
    return None if wait is None else wait.kind


async def test_nothing_starts_before_its_time(steered: Steered, server: Server) -> None:
    """A delayed flow is pending, waits on its time and nothing else, and starts then."""
    chain = await steered.client.achain([await steered.client.asign("gated", n=1), "plain"])
    asked = _now(server)
    handle = await chain.aio_run_no_wait(delay=SOON)
    wait = await steered.client.why(chain.key)
    assert await handle.status() is Status.PENDING
    assert wait is not None
    assert wait.kind == "time"
    assert asked + SOON <= datetime.fromisoformat(wait.on) <= _now(server) + SOON
    await eventually(lambda: steered.began == [1], "it starts")
    assert _now(server) >= datetime.fromisoformat(wait.on)
    steered.open.set()
    assert await handle.result(10) == 0


async def test_time_of_day(steered: Steered, server: Server) -> None:
    """A start at a time with a zone; at one that is over it starts at once."""
    client = steered.client
    handle = await (await client.asign("plain", n=1)).aio_run_no_wait(at=_now(server) - HOUR)
    assert await handle.result(10) == 1
    at = _now(server) + SOON
    handle = await (await client.asign("plain", n=2)).aio_run_no_wait({"n": 3}, at=at)
    assert await handle.result(10) == 3
    assert _now(server) >= at


async def test_delay_counts_from_the_exit_of_a_transaction(steered: Steered, server: Server) -> None:
    """Inside a transaction nothing is put off before its exit."""
    async with steered.client.abounded_field():
        signature = await steered.client.asign("plain", n=1)
        handle = await signature.aio_run_no_wait(delay=SOON)
        exits = _now(server)
    assert await handle.result(10) == 1
    assert _now(server) >= exits + SOON


@pytest.mark.parametrize("verb", ["suspend", "interrupt"])
async def test_held_when_its_time_comes(steered: Steered, server: Server, verb: str) -> None:
    """What is held when its time comes starts at resume; resumed before, it keeps its time."""
    client = steered.client
    early, late = await client.asign("plain", n=1), await client.asign("plain", n=2)
    handles = [await early.aio_run_no_wait(delay=SOON), await late.aio_run_no_wait(delay=SOON)]
    for signature in (early, late):
        await getattr(signature, verb)()
        assert await _waits_on(client, signature.key) == "mark"
    await early.resume()
    assert await _waits_on(client, early.key) == "time"
    assert await handles[0].result(10) == 1
    await eventually(lambda: server.connection.zscore(server.keys.outbox, f"!d:{late.id}") is None, "its time came")
    assert steered.ended == [1]
    await late.resume()
    assert await handles[1].result(10) == 2
    assert steered.ended == [1, 2]


async def test_canceled_before_its_time(steered: Steered, server: Server) -> None:
    """A cancel leaves no timer behind."""
    swarm = await steered.client.aswarm(["plain"], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait(delay=HOUR)
    assert await swarm.cancel() is Status.CANCELED
    with pytest.raises(FlowCanceledError):
        await handle.result(10)
    assert server.connection.zscore(server.keys.outbox, f"!d:{swarm.id}") is None


async def test_lives_until_its_time(make_client: MakeClient) -> None:
    """The lifetime of what was never started does not end it; arguments can be changed until it starts."""
    steered = Steered(make_client(ttl={"active_ttl": 0.2}))
    async with steered.client.worker():
        signature, other = await steered.client.asign("plain", n=1), await steered.client.asign("plain")
        handle = await signature.aio_run_no_wait(delay=timedelta(seconds=2))
        await eventually(lambda: _is_gone(steered.client, other.key), "what was not started is gone")
        await signature.kwargs.aupdate(n=5)
        assert await handle.result(10) == 5


async def _is_gone(client: Mageflow, key: str) -> bool:
    return await client.load_signature(key) is None


async def test_replacement_with_a_delay(make_client: MakeClient) -> None:
    """A task that returns a delayed signature is replaced by it, and waits for its time."""
    steered = Steered(make_client())
    client = steered.client

    @client.task(name="later")
    async def later(n: int) -> Any:
        signature = await client.asign("plain", n=n)
        await signature.aio_run_no_wait(delay=SOON)
        return signature

    async with client.worker():
        handle = await (await client.asign("later", n=4)).aio_run_no_wait()
        assert await handle.result(10) == 4
        assert steered.ended == [4]


async def test_another_worker_starts_it(make_client: MakeClient) -> None:
    """It needs no worker to wait, and any worker starts it."""
    steered = Steered(make_client())
    await steered.client.startup()
    handle = await (await steered.client.asign("plain", n=1)).aio_run_no_wait(delay=timedelta(milliseconds=1))
    async with steered.client.worker():
        assert await handle.result(10) == 1
    await steered.client.shutdown()


async def test_refused_starts(make_client: MakeClient, server: Server) -> None:
    """A member is not put off, a wrong time is refused, a second start too; nothing is changed by that."""
    client = Steered(make_client()).client
    await client.startup()
    signature, member = await client.asign("plain"), await client.asign("plain")
    swarm = await client.aswarm([member])
    delayed = await client.asign("plain")
    await delayed.aio_run_no_wait(delay=HOUR)
    run = signature.aio_run_no_wait
    wrong: Any = 5
    await refused(server, {"member": lambda: member.aio_run_no_wait(delay=HOUR)}, IllegalMoveError, "whole flow")
    await refused(server, {"twice": lambda: delayed.aio_run_no_wait(delay=HOUR)}, AlreadyStartedError, delayed.key)
    await refused(
        server,
        {
            "negative": lambda: run(delay=-HOUR),
            "too long": lambda: run(delay=timedelta.max),
            "number": lambda: run(delay=wrong),
        },
        InvalidArgumentError,
        "delay",
        "timedelta",
    )
    naive = datetime.now()  # noqa: DTZ005 - that is what is refused
    await refused(
        server, {"naive": lambda: run(at=naive), "number": lambda: run(at=wrong)}, InvalidArgumentError, "zone"
    )
    both: Calls = {"both": lambda: run(delay=SOON, at=datetime.now(UTC))}
    await refused(server, both, InvalidArgumentError, "either")
    await member.aio_run_no_wait()
    opened: Calls = {"opened": lambda: swarm.aio_run_no_wait(delay=HOUR)}
    await refused(server, opened, IllegalMoveError, "whole flow")
    assert await _waits_on(client, delayed.key) == "time"
    await client.shutdown()
