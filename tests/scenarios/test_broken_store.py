"""Broken records and an unfit server: each is named, and costs no more than what it is about."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from mageflow import Mageflow, MageflowConfig, Signature, Status
from mageflow.backends.server import EmbeddedServer
from mageflow.errors import (
    BrokenRecordError,
    StoreUnavailableError,
)
from mageflow.flow.event import Failed
from mageflow.flow.ids import new_id
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.refusals import Calls, refused
from tests.scenarios.support import Server, Stage, nothing


@dataclass(frozen=True, kw_only=True)
class _Damage:
    """What is broken: a field of the record or of the payloads is set or, without a value, deleted."""

    of_record: bool
    field: str | None = None
    value: bytes | None = None

    def do(self, server: Server, identifier: str) -> None:
        """Break a signature."""
        key = server.keys.record(identifier) if self.of_record else server.keys.payloads(identifier)
        field = self.field or identifier
        if self.value is None:
            server.connection.hdel(key, field)
        else:
            server.connection.hset(key, field, self.value)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_Damage(of_record=False), id="no body"),
        pytest.param(_Damage(of_record=False, value=b"{no json"), id="no json"),
        pytest.param(_Damage(of_record=False, value=b"\xff\xfe"), id="no text"),
        pytest.param(_Damage(of_record=False, value=b"[]"), id="no mapping"),
        pytest.param(_Damage(of_record=True, field="k", value=b"z"), id="unknown kind"),
        pytest.param(_Damage(of_record=True, field="st", value=b"?"), id="unknown status"),
        pytest.param(_Damage(of_record=True, field="k"), id="no kind"),
    ],
)
async def test_broken_record(idle: Stage, server: Server, damage: _Damage) -> None:
    """A record that is not what was written raises `BrokenRecordError` with the key, and is left as it is."""
    signature = await idle.client.asign("echo")
    damage.do(server, server.id_of(signature.key))
    await refused(server, _readers(idle.client, signature), BrokenRecordError, signature.key)
    server.clear()


async def test_record_that_is_none(idle: Stage, server: Server) -> None:
    """A key that holds something else than a record raises `BrokenRecordError` with the key of the signature."""
    signature = await idle.client.asign("echo")
    server.connection.delete(server.keys.record(server.id_of(signature.key)))
    server.connection.set(server.keys.record(server.id_of(signature.key)), "text")
    await refused(server, _readers(idle.client, signature), BrokenRecordError, signature.key)
    server.clear()


def _readers(client: Mageflow, signature: Signature[Any, Any]) -> Calls:
    return {
        "load": lambda: client.load_signature(signature.key),
        "refresh": signature.arefresh,
        "status": signature.handle.status,
    }


async def test_broken_record_fails_its_run_only(stage: Stage, client: Mageflow, server: Server) -> None:
    """A member whose record is broken fails by that name; the rest of the swarm is done, and the worker goes on."""
    members = [await client.asign("double", n=n) for n in range(3)]
    swarm = await client.aswarm(members, is_swarm_closed=True)
    server.connection.hset(server.keys.payloads(server.id_of(swarm.key)), server.id_of(members[1].key), "{no json")
    handle = await swarm.aio_run_no_wait()
    with pytest.raises(BrokenRecordError, match=members[1].key):
        await handle.result(10)
    assert await handle.status() is Status.DONE
    assert [await members[n].handle.result(1) for n in (0, 2)] == [0, 4]
    assert (await swarm.progress()).failed == 1
    assert await (await client.asign("double", n=5)).aio_run(timeout=10) == 10


async def test_broken_result_says_where(stage: Stage, client: Mageflow, server: Server) -> None:
    """A result that cannot be read raises `BrokenRecordError` for who asks for it."""
    signature = await client.asign("double", n=1)
    handle = await signature.aio_run_no_wait()
    await handle.result(10)
    identifier = server.id_of(signature.key)
    server.connection.hset(server.keys.payloads(identifier), f"{identifier}:r", "{no json")
    with pytest.raises(BrokenRecordError, match=signature.key):
        await handle.result(1)


async def test_redis_away_at_start_up() -> None:
    """A client whose Redis does not answer says where it looked, soon, at its first call and at its worker's start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        client = Mageflow(redis_client=f"redis://:secret@127.0.0.1:{port}", config=MageflowConfig(namespace="away"))
        client.task(name="echo")(nothing)
        calls = {"startup": client.startup, "verb": lambda: client.asign("echo"), "worker": lambda: _serve(client)}
        for call in calls.values():
            begun = time.monotonic()
            with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}") as caught:
                await call()
            assert time.monotonic() - begun < 5
            assert "secret" not in str(caught.value)


async def test_report_after_the_client_was_closed(idle: Stage) -> None:
    """What a run reports when its client is closed already is refused at once, and waits for nothing."""
    engine = await idle.client._host.open()
    await idle.client.shutdown()
    before = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="the client was closed"):
        await engine.store.apply(Failed(id=new_id(), run=1, error=b"{}"))
    assert time.monotonic() - before < 1
    await idle.client.startup()


async def _serve(client: Mageflow) -> None:
    async with client.worker():
        pass


@asynccontextmanager
async def _eviction(server: Server, policy: str) -> AsyncGenerator[None]:
    server.connection.config_set("maxmemory-policy", policy)
    try:
        yield
    finally:
        server.connection.config_set("maxmemory-policy", "noeviction")


async def test_report_waits_for_redis(tmp_path: Path, namespace: str) -> None:
    """A run that ends while Redis is down has its outcome once Redis is back, and user code does not run again."""
    embedded = await EmbeddedServer.acquire(tmp_path / "server")
    stage = Stage(Mageflow(redis_client=embedded.url, config=MageflowConfig(namespace=namespace)))
    with redis.Redis.from_url(embedded.url) as connection:
        connection.config_set("appendfsync", "no")  # each write is handed to the system before it is answered
        process = int(connection.info("server")["process_id"])
        async with stage.client.worker():
            handle = await (await stage.client.asign("wait", gate="gate", success_callbacks=["note"])).aio_run_no_wait()
            await eventually(lambda: stage.started == ["gate"], "it runs")
            os.kill(process, signal.SIGSTOP)
            stage.open("gate")
            await eventually(lambda: not stage.running, "user code is through")
            os.kill(process, signal.SIGKILL)
            assert await handle.result(20) == "gate"
            await eventually(lambda: len(stage.got("note")) == 1, "its callback ran")
            assert stage.started == ["gate"]
    await embedded.release()


async def test_worker_refuses_a_redis_that_may_evict(make_client: MakeClient, server: Server) -> None:
    """A worker does not start where records may vanish, and says what to change; `allow_eviction=True` lets it."""
    async with _eviction(server, "allkeys-lru"):
        with pytest.raises(StoreUnavailableError, match="noeviction"):
            await _serve(make_client())
        await _serve(make_client(allow_eviction=True))


async def test_records_of_a_newer_version_are_left_alone(idle: Stage, make_client: MakeClient, server: Server) -> None:
    """Where a newer MageFlow keeps its records, an older one refuses by name, changes nothing, and does not start."""
    signature = await idle.client.asign("echo")
    key = f"{server.keys.everything[:-1]}schema"
    server.connection.set(key, 2)
    calls: Calls = {
        "read": signature.arefresh,
        "create": lambda: idle.client.asign("echo"),
        "run": signature.aio_run_no_wait,
        "steer": signature.cancel,
        "worker": lambda: _serve(make_client()),
    }
    await refused(server, calls, StoreUnavailableError, "schema version 2")
    server.connection.delete(key)
    async with idle.client.worker():
        assert await signature.aio_run(timeout=10) == {}
