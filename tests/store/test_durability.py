"""`durability="fsync"`: changes wait for the disk, where the server can."""

from __future__ import annotations

import time

import pytest
import redis

from mageflow.errors import StoreUnavailableError
from tests.conftest import MakeClient


async def test_changes_are_on_the_disk_when_they_return(make_client: MakeClient, redis_url: str) -> None:
    """A signature that was made with fsync is in the synced part of the file; other work goes on meanwhile."""
    client = make_client(durability="fsync")
    client.task(name="nothing")(lambda: None)
    async with client.worker():
        signature = await client.asign("nothing")
        with redis.Redis.from_url(redis_url) as server:
            assert server.exists(f"{{mf:{client.config.namespace}}}:s:{signature.id}")
        started = time.monotonic()
        assert await signature.aio_run(timeout=10) is None
        assert time.monotonic() - started < 10


async def test_a_server_without_a_file_is_refused(make_client: MakeClient, redis_url: str) -> None:
    """Where the append-only file is off, a change with fsync says so."""
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("appendonly", "no")
        client = make_client(durability="fsync")
        client.task(name="nothing")(lambda: None)
        try:
            with pytest.raises(StoreUnavailableError, match="fsync"):
                await client.asign("nothing")
        finally:
            server.config_set("appendonly", "yes")
            await client.shutdown()
