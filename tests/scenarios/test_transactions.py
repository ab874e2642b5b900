"""Transactions: everything inside becomes visible in one step at the exit, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
import pytest_asyncio
import redis

from mageflow import Mageflow, SwarmConfig
from mageflow.errors import (
    AlreadyStartedError,
    InvalidMessageError,
    OutsideTransactionError,
    TransactionError,
)
from tests.conftest import MakeClient


@pytest_asyncio.fixture
async def client(make_client: MakeClient) -> AsyncIterator[Mageflow]:
    """An open client with two tasks."""
    client = make_client()

    @client.task(name="double")
    async def double(number: int, factor: int = 2) -> int:
        return number * factor

    @client.task(name="total")
    async def total(mageflow_results: list[int]) -> int:
        return sum(mageflow_results)

    await client.startup()
    yield client
    await client.shutdown()


def dump(redis_url: str, namespace: str) -> dict[Any, object]:
    """Return all keys of a namespace with their values."""
    with redis.Redis.from_url(redis_url) as server:
        keys: list[Any] = [*cast("Iterator[Any]", server.scan_iter(f"{{mf:{namespace}}}:*", count=1000))]
        return {key: _value(server, key) for key in keys}


def _value(server: redis.Redis, key: Any) -> object:
    kind = server.type(key)
    if kind == b"hash":
        return server.hgetall(key)
    if kind == b"zset":
        return server.zrange(key, 0, -1, withscores=True)
    return server.lrange(key, 0, -1) if kind == b"list" else server.dump(key)


async def test_what_a_block_describes_is_visible_at_its_exit_only(client: Mageflow) -> None:
    """A chain of new signatures, their arguments and its start are nothing before the exit and all of it after."""
    async with client.worker():
        async with client.abounded_field():
            first = await client.asign("double", number=1)
            first.kwargs["factor"] = 5
            second = await client.aswarm([first, "double"], is_swarm_closed=True)
            chain = await client.achain([second, "total"])
            handle = await chain.aio_run_no_wait({"number": 3})
            assert await client.load_signature(chain.key) is not None, "the block itself sees what it describes"
            assert not await stored(client, chain.key), "nobody else does"
        assert await handle.result(10) == 1 * 5 + 3 * 2


async def stored(client: Mageflow, key: str) -> bool:
    """Whether there is a record of this key, whatever the current block describes."""
    store = await client._session.store()
    return (await store.read([key.rpartition(":")[2]]))[0] is not None


@pytest.mark.parametrize("count", [3, 250])
async def test_an_exception_inside_changes_not_one_key(
    client: Mageflow, redis_url: str, namespace: str, count: int
) -> None:
    """After an exception in a block the namespace is what it was before, and so are the arguments of its objects."""
    kept = await client.asign("double", number=1)
    swarm = await client.aswarm([kept])
    before = dump(redis_url, namespace)
    with pytest.raises(RuntimeError):
        async with client.abounded_field():
            for number in range(count):
                await swarm.add_task(await client.asign("double", number=number))
            kept.kwargs["factor"] = 9
            await swarm.close_swarm()
            await swarm.aio_run_no_wait()
            raise RuntimeError
    assert dump(redis_url, namespace) == before
    assert dict(kept.kwargs) == {"number": 1}


async def test_a_refused_block_changes_not_one_key(client: Mageflow, redis_url: str, namespace: str) -> None:
    """A block of more than 300 signatures whose last change is refused leaves nothing, and says why."""
    ran = await client.asign("double", number=1)
    await ran.aio_run_no_wait()
    await (await client._session.open()).dispatcher.idle()
    await client.asign("double", number=2)
    before = dump(redis_url, namespace)
    with pytest.raises(AlreadyStartedError):
        async with client.abounded_field():
            await client.aswarm([await client.asign("double", number=number) for number in range(300)])
            await ran.aio_run_no_wait()
    assert dump(redis_url, namespace) == before


async def test_a_large_block_is_one_step(client: Mageflow) -> None:
    """A swarm of 500 new members, added, started and closed in one block, runs to its end."""
    async with client.worker():
        async with client.abounded_field():
            swarm = await client.aswarm(config=SwarmConfig(max_concurrency=20))
            members = [await client.asign("double", number=number) for number in range(500)]
            await swarm.aio_run_in_swarm(members)
            handle = await swarm.aio_run_no_wait()
            await swarm.close_swarm()
        assert await handle.result(20) == [number * 2 for number in range(500)]


async def test_an_inner_block_that_raises_drops_its_own_part(client: Mageflow) -> None:
    """What an inner block described is dropped when it raises; the outer one goes on without it."""
    async with client.abounded_field():
        kept = await client.asign("double", number=1)
        made: list[str] = []

        async def fail_inside() -> None:
            async with client.abounded_field():
                made.append((await client.asign("double", number=2)).key)
                kept.kwargs["number"] = 7
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail_inside()
        async with client.abounded_field():
            inner = await client.asign("double", number=3)
    found = await client.load_signature(kept.key)
    assert found is not None
    assert dict(found.kwargs) == {"number": 1}
    assert await client.load_signature(inner.key) is not None
    assert await client.load_signature(made[0]) is None


async def test_asyncio_tasks_join_the_block_that_started_them(client: Mageflow) -> None:
    """A task started inside takes part while the block is open and writes directly afterwards; others never see it."""
    go_on, outside = asyncio.Event(), asyncio.Event()

    async def sign(event: asyncio.Event | None = None) -> str:
        if event is not None:
            await event.wait()
        return (await client.asign("double", number=1)).key

    other = asyncio.create_task(sign(outside))
    async with client.abounded_field():
        joined = await asyncio.create_task(sign())
        late = asyncio.create_task(sign(go_on))
        outside.set()
        assert await stored(client, await other)
        assert not await stored(client, joined)
    go_on.set()
    for key in (joined, await late, await other):
        assert await client.load_signature(key) is not None


async def test_refusals_of_a_transaction(client: Mageflow) -> None:
    """Waiting inside, setting arguments outside, wrong arguments and more than 100 changed signatures are refused."""
    signatures = [await client.asign("double", number=number) for number in range(101)]
    with pytest.raises(OutsideTransactionError, match="aupdate"):
        signatures[0].kwargs["number"] = 2
    with pytest.raises(OutsideTransactionError, match="aupdate"):
        signatures[0].kwargs.update(number=2)
    with pytest.raises(TransactionError):
        async with client.abounded_field():
            await signatures[0].aio_run()
    with pytest.raises(InvalidMessageError, match="factor"):
        async with client.abounded_field():
            signatures[0].kwargs["factor"] = "many"
    with pytest.raises(TransactionError, match="101"):
        async with client.abounded_field():
            for signature in signatures:
                signature.kwargs["factor"] = 3
    assert dict(signatures[0].kwargs) == {"number": 0}
    async with client.abounded_field():
        for signature in signatures[:100]:
            signature.kwargs["factor"] = 3
    found = await client.load_signature(signatures[99].key)
    assert found is not None
    assert dict(found.kwargs) == {"number": 99, "factor": 3}
