"""What fills a map: iterables of every kind, one chunk after the other, by whoever knows its key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

import mageflow
from mageflow import Mageflow, MapSignature, SwarmConfig, errors
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Message, Number, Server, Stage, numbers


async def test_error_of_the_iterable_leaves_the_map_open(client: Mageflow) -> None:
    """What an iterable yielded before it raised is there, and the map can be continued by its key."""

    def broken() -> Iterator[Message]:
        yield from numbers(7)
        raise BrokenError("no more")

    with pytest.raises(BrokenError) as caught:
        await client.amap("double", broken())
    [note] = caught.value.__notes__
    assert note.startswith("7 items")
    mapped = await client.load_signature(note.split()[-3])
    assert isinstance(mapped, MapSignature)
    assert not mapped.is_swarm_closed
    await mapped.add_items(numbers(3, start=7))
    await mapped.close_swarm()
    assert await mapped.aio_run(timeout=10) == [2 * n for n in range(10)]


async def test_producer_that_dies_is_continued_by_another(stage: Stage, make_client: MakeClient) -> None:
    """A map whose producer is gone runs what it has, stays open, and another process goes on."""
    mapped = await stage.client.amap("double")
    handle = await mapped.aio_run_no_wait()
    endless = asyncio.create_task(mapped.add_items(_then_nothing(8)))
    await eventually(lambda: len(stage.got("double")) == 8, "what it added has run")
    endless.cancel()
    await asyncio.gather(endless, return_exceptions=True)
    wait = await stage.client.why(mapped.key)
    assert wait is not None
    assert wait.kind == "open gate"
    other = make_client()
    found = await other.load_signature(mapped.key)
    assert isinstance(found, MapSignature)
    total = (await found.progress()).total
    async with found.adding():
        await found.add_items(numbers(4, start=total))
    await other.shutdown()
    assert await handle.result(timeout=10) == [2 * n for n in range(12)]


async def _then_nothing(count: int) -> AsyncIterator[Number]:
    for n in range(count):
        yield Number(n=n)
    await asyncio.Event().wait()


async def test_slow_items_run_as_they_come(stage: Stage) -> None:
    """An item of a slow iterable is added without waiting for others."""
    mapped = await stage.client.amap("double")
    await mapped.aio_run_no_wait()

    async def one_by_one() -> AsyncIterator[Number]:
        for n in range(3):
            yield Number(n=n)
            await eventually(lambda: len(stage.got("double")) > n, f"item {n} has run")  # noqa: B023 - at once

    async with mapped.adding():
        await mapped.add_items(one_by_one())
    assert [value async for value in mapped.results()] == [0, 2, 4]


async def test_producer_waits_while_too_many_wait(stage: Stage) -> None:
    """No more is taken from an iterable than `max_waiting` and a chunk above what has run."""
    taken = 0

    def endless() -> Iterator[Message]:
        nonlocal taken
        while True:
            taken += 1
            yield {"gate": f"g{taken}"}

    mapped = await stage.client.amap("wait", config=SwarmConfig(max_concurrency=2))
    await mapped.aio_run_no_wait()
    producer = asyncio.create_task(mapped.add_items(endless(), max_waiting=600))
    await eventually(lambda: taken >= 1000, "two chunks were taken")
    await eventually(lambda: _total(mapped, 1000), "two chunks were added")
    assert taken == 1000
    stage.open_all()
    await eventually(lambda: taken > 1000, "more were taken")
    await mapped.cancel()
    with pytest.raises(errors.SwarmIsCanceledError):
        await producer


async def _total(mapped: MapSignature[Any, Any], count: int) -> bool:
    return (await mapped.progress()).total == count


async def test_item_that_does_not_fit_the_model(client: Mageflow) -> None:
    """An item of a wrong type is refused by its number and field."""
    with pytest.raises(errors.InvalidMessageError, match=r"double \(item 600\).*'n'"):
        await client.amap("double", [*numbers(600), {"n": "many"}])


async def test_limit_of_items(client: Mageflow) -> None:
    """More items than `max_task_allowed` are refused, and nothing of the chunk is added."""
    mapped = await client.amap("double", config=SwarmConfig(max_task_allowed=5))
    with pytest.raises(errors.TooManyTasksError):
        await mapped.add_items(numbers(6))
    await mapped.add_items(numbers(5))
    assert (await mapped.progress()).total == 5


async def test_closed_map_takes_no_items(client: Mageflow) -> None:
    """A map that is closed refuses items; no map takes members that are signatures."""
    mapped = await client.amap("double", numbers(1))
    with pytest.raises(errors.SwarmIsClosedError):
        await mapped.add_items(numbers(1))
    with pytest.raises(errors.IllegalMoveError, match="map"):
        await (await client.amap("double")).add_task("double")
    with pytest.raises(errors.IllegalMoveError, match="duplicate"):
        await mapped.aduplicate()


async def test_containers_are_no_items(client: Mageflow) -> None:
    """A map runs a task for each item: a container is refused."""
    chain = await client.achain(["double", "double"])
    with pytest.raises(errors.IllegalMoveError, match="container"):
        await client.amap(chain, numbers(1))


async def test_map_in_a_transaction_is_refused(client: Mageflow) -> None:
    """A transaction would have to hold all the items: maps are made before it."""
    mapped = await client.amap("double")
    with pytest.raises(errors.TransactionError):
        async with client.abounded_field():
            await client.amap("double", numbers(1))
    with pytest.raises(errors.TransactionError):
        async with client.abounded_field():
            await mapped.add_items(numbers(1))


async def test_task_that_runs_again_adds_nothing_twice(stage: Stage) -> None:
    """A task that made a map and failed in the middle gets the same map, and adds what it had not come to."""
    keys: list[str] = []

    @stage.client.task(name="producer", retries=1)
    async def producer() -> str:
        mapped = await mageflow.amap("double")
        keys.append(mapped.key)
        await mapped.add_items(numbers(700))
        if len(keys) == 1:
            raise BrokenError("half-way")
        await mapped.add_items(numbers(20, start=700))
        await mapped.close_swarm()
        await mapped.aio_run_no_wait()
        return mapped.key

    key = await (await stage.client.asign(producer)).aio_run(timeout=20)
    assert keys == [key, key]
    mapped = await stage.client.load_signature(key)
    assert mapped is not None
    assert await mapped.handle.result(timeout=20) == [2 * n for n in range(720)]


async def test_killed_in_the_middle_of_a_retry(stage: Stage) -> None:
    """A map that an earlier run of its task closed is found as it is by the next."""
    runs: list[str] = []

    @stage.client.task(name="whole", retries=1)
    async def whole() -> str:
        mapped = await mageflow.amap("double", numbers(30))
        await mapped.aio_run_no_wait()
        runs.append(mapped.key)
        if len(runs) == 1:
            raise BrokenError("after all")
        return mapped.key

    key = await (await stage.client.asign(whole)).aio_run(timeout=20)
    mapped = await stage.client.load_signature(key)
    assert mapped is not None
    assert await mapped.handle.result(timeout=10) == [2 * n for n in range(30)]
    assert len(stage.got("double")) == 30


async def test_waiting_items_are_small(idle: Stage, server: Server) -> None:
    """An item that waits takes its message and less than 100 bytes."""
    mapped = await idle.client.amap("double", [])
    mapped = await idle.client.amap("double", numbers(5000))
    payload = sum(len(f'{{"n":{n}}}') for n in range(5000))
    size = _memory(server.connection, server.keys.waiting_items(mapped.id))
    assert (size - payload) / 5000 < 20
    assert len([name for name in server.flow_keys() if name.startswith("s:")]) == 4


def _memory(connection: redis.Redis, key: str) -> int:
    size: Any = connection.memory_usage(key, samples=0)
    return int(size)


async def test_item_is_no_callback(stage: Stage) -> None:
    """Named as a callback an item is refused, before its turn and afterwards; a copy of it is not."""
    mapped = await stage.client.amap("echo", [{"a": 1}])
    for _ in range(2):
        item = await mapped.item(0)
        with pytest.raises(errors.IllegalMoveError, match="it is an item of a map"):
            await stage.client.asign("echo", success_callbacks=[item])
        if item.task_status.value == "pending":
            assert await mapped.aio_run(timeout=10) == [{"a": 1}]
    copy = await (await mapped.item(0)).aduplicate()
    assert (await stage.client.asign("echo", success_callbacks=[copy])).success_callbacks == (copy.key,)
