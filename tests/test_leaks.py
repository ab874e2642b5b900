"""The check for keys that stay for ever finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import redis

from mageflow import Mageflow
from tests.leaks import Namespace, remove
from tests.scenarios.support import nothing

MakeClient = Callable[..., Mageflow]


@pytest.fixture
def server(redis_url: str, namespace: str) -> Iterator[redis.Redis]:
    """A plain client; what the test left in its namespace on purpose is deleted."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        remove(client, f"{{mf:{namespace}}}:*")


def _stale(server: redis.Redis, namespace: str) -> list[str]:
    return [line.partition(":")[0] + ":" + line.split(":")[1] for line in Namespace(server, namespace).stale()]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("s:ENDED", {"k": "t", "st": "d"}),
        ("s:ACTIVE", {"k": "s", "st": "a"}),
        ("s:TEMPLATE", {"k": "t", "st": "p", "rf": "1"}),
        ("b:ORPHAN", {"ORPHAN": "{}"}),
        ("s:MEMBER", {"k": "t", "st": "p", "c": "GONE"}),
        ("dr:DRAFT", {"0": "X"}),
        ("leftover:1", {"x": "y"}),
    ],
)
def test_key_that_nothing_removes_is_found(
    server: redis.Redis, namespace: str, name: str, fields: Mapping[Any, Any]
) -> None:
    """An ended flow, one that waits on nothing, an unnamed template, an orphan and an unknown key are reported."""
    key = f"{{mf:{namespace}}}:{name}"
    server.hset(key, mapping=fields)
    assert _stale(server, namespace) == [name]
    server.expire(key, 60)
    assert _stale(server, namespace) == []


def test_flow_that_goes_on_is_not_reported(server: redis.Redis, namespace: str) -> None:
    """Records of a flow with a row that is due, a run or an expiry are in order, and so are their templates."""
    prefix = f"{{mf:{namespace}}}:"
    for root, where in (("DUE", "out"), ("RUNS", "runs"), ("NEW", "ix:p")):
        server.hset(f"{prefix}s:{root}", mapping={"k": "c", "st": "a"})
        server.hset(f"{prefix}s:MEMBER{root}", mapping={"k": "t", "st": "p", "c": root})
        server.hset(f"{prefix}s:FIRED{root}", mapping={"k": "t", "st": "p", "o": f"MEMBER{root}"})
        server.hset(f"{prefix}b:{root}", mapping={f"MEMBER{root}:s": f"TEMPLATE{root}"})
        server.hset(f"{prefix}s:TEMPLATE{root}", mapping={"k": "t", "st": "p", "rf": "1"})
        server.zadd(f"{prefix}{where}", {f"FIRED{root}" if where != "ix:p" else root: 1})
    assert _stale(server, namespace) == []


async def test_real_flow_with_its_expiry_taken_away_is_found(
    make_client: MakeClient, server: redis.Redis, namespace: str
) -> None:
    """What a client really wrote is in order as long as its expiry is listed, and reported once it is not."""
    client = make_client()
    client.task(name="noop")(nothing)
    await client.achain(["noop", "noop"])
    await client.shutdown()
    assert _stale(server, namespace) == []
    server.delete(f"{{mf:{namespace}}}:ix:p")
    assert len(_stale(server, namespace)) >= 4
