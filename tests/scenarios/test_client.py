"""The client: where its Redis is, what it starts and when, how its worker begins and ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import redis.asyncio

import mageflow
from mageflow import AcceptParams, FlowHandle, Mageflow, MageflowConfig, Status
from mageflow.backends.base import Delivery
from mageflow.errors import StoreUnavailableError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Stage


async def test_redis_is_a_url_a_client_or_the_environment(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three lead to the same flows; of a given client only address and credentials count, and it stays open."""
    given = redis.asyncio.Redis.from_url(redis_url, decode_responses=True, socket_timeout=0.2)
    config = MageflowConfig(namespace=namespace)
    monkeypatch.setenv("REDIS_URL", redis_url)
    clients = [
        Mageflow(redis_client=redis_url, config=config),
        Mageflow(redis_client=given, config=config),
        Mageflow(config=config),
    ]
    stage = Stage(clients[0])
    async with stage.client.worker():
        for client in clients:
            assert await (await client.asign("double", n=2)).aio_run(timeout=10) == 4
        for client in clients[1:]:
            await client.shutdown()
    assert await given.ping()
    await given.aclose()


async def test_given_client_of_a_worker_may_have_any_settings(redis_url: str, namespace: str) -> None:
    """A worker runs on a client that decodes replies and gives up soon, for longer than its time-out."""
    given = redis.asyncio.Redis.from_url(redis_url, decode_responses=True, socket_timeout=0.2)
    stage = Stage(Mageflow(redis_client=given, config=MageflowConfig(namespace=namespace)))
    async with stage.client.worker():
        handle = await (await stage.client.asign("wait", gate="a")).aio_run_no_wait()
        await eventually(lambda: stage.running == {"a"}, "the task runs")
        stage.open("a")
        assert await handle.result(10) == "a"
    await given.aclose()


async def test_client_without_a_worker_starts_nothing(make_client: MakeClient) -> None:
    """A client that only signs and starts flows has no thread, and no asyncio task but those of its connection."""
    stage = Stage(make_client())
    assert _tasks() == set()
    await stage.client.startup()
    await (await stage.client.asign("echo")).aio_run_no_wait()
    await eventually(lambda: _tasks() <= {"mageflow-read", "mageflow-send"}, "only the connection is left")
    assert _threads() == set()
    await stage.client.shutdown()
    assert _tasks() == set()


def _tasks() -> set[str]:
    """Return the names of the other asyncio tasks."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("mageflow")}


async def test_worker_leaves_nothing_behind(make_client: MakeClient) -> None:
    """After the exit of a worker no thread and no asyncio task of it is left."""
    stage = Stage(make_client())

    def plain() -> int:
        return 1

    stage.client.task()(plain)
    async with stage.client.worker():
        assert await (await stage.client.asign("plain")).aio_run(timeout=10) == 1
        assert _threads()
    await eventually(lambda: _tasks() == set(), "no asyncio task is left")
    await eventually(lambda: _threads() == set(), "no thread is left")


async def test_exit_of_a_worker_waits_for_its_tasks(make_client: MakeClient) -> None:
    """The exit of `client.worker()` lets running tasks end, and their outcome is recorded."""
    stage = Stage(make_client())
    await stage.client.startup()
    leave, left = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with stage.client.worker():
            await leave.wait()
        left.set()

    serving = asyncio.create_task(serve())
    handle = await (await stage.client.asign("wait", gate="a")).aio_run_no_wait()
    await eventually(lambda: stage.running == {"a"}, "the task runs")
    leave.set()
    late = await (await stage.client.asign("echo")).aio_run_no_wait()
    assert await handle.status() is Status.ACTIVE
    assert not left.is_set()
    stage.open("a")
    await serving
    assert await handle.status() is Status.DONE
    assert (await late.status() is Status.PENDING) == (stage.got("echo") == [])
    await stage.client.shutdown()


async def test_task_may_sign_while_its_worker_stops(make_client: MakeClient) -> None:
    """What a task does with its client at the exit of the worker opens nothing that would stay open."""
    stage = Stage(make_client())
    held, late = asyncio.Event(), asyncio.Event()

    @stage.client.task()
    async def signs() -> str:
        held.set()
        await late.wait()
        return (await stage.client.asign("echo")).key

    async def serve() -> FlowHandle[str]:
        async with stage.client.worker():
            handle = await (await stage.client.asign(signs)).aio_run_no_wait()
            await held.wait()
        return handle

    serving = asyncio.create_task(serve())
    await held.wait()
    await eventually(lambda: stage.client._host.engine is None, "the client closes")
    late.set()
    handle = await serving
    assert (_tasks(), _threads()) == (set(), set())
    assert await stage.client.load_signature(await handle.result(1)) is not None
    await stage.client.shutdown()


async def test_delivery_after_the_stop_of_its_worker_is_for_another(make_client: MakeClient) -> None:
    """A delivery that comes late is left for other workers, and nothing is opened for it."""
    stage = Stage(make_client())
    host = stage.client._host
    await host.worker_started()
    handle = await (await stage.client.asign("echo", n=1)).aio_run_no_wait()
    await host.worker_stopped()
    delivery = Delivery(id=handle.key.rpartition(":")[2], dispatch=1, attempt=0, manager_run="")
    assert await host.begin(delivery, "echo") == "worker stopped"
    assert (_tasks(), _threads()) == (set(), set())
    async with stage.client.worker():
        assert await handle.result(10) == {"n": 1}


async def test_worker_runs_so_many_tasks_at_a_time(make_client: MakeClient) -> None:
    """`slots` bounds what one worker runs, of all flows together."""
    stage = Stage(make_client())
    gates = [f"g{n}" for n in range(6)]
    async with stage.client.worker(slots=2):
        handles = [await (await stage.client.asign("wait", gate=gate)).aio_run_no_wait() for gate in gates]
        await eventually(lambda: len(stage.running) == 2, "two tasks run")
        stage.open(*gates)
        assert await asyncio.gather(*(handle.result(10) for handle in handles)) == gates
    assert stage.peak == 2


async def test_start_mageflow_returns_a_started_client(redis_url: str, namespace: str) -> None:
    """`start_mageflow` takes what `Mageflow` takes and returns a client that reached Redis."""
    config = MageflowConfig(namespace=namespace)
    started = await mageflow.start_mageflow(None, redis_url, AcceptParams.ALL, config)
    assert (started.config.namespace, started.config.param_config) == (namespace, AcceptParams.ALL)
    assert _tasks()
    await started.shutdown()
    with pytest.raises(StoreUnavailableError):
        await mageflow.start_mageflow(redis_client="unix:///nowhere/redis.sock", config=config)


async def test_first_call_opens_the_client(make_client: MakeClient) -> None:
    """Without `startup()` the first verb opens the client; `startup()` and `shutdown()` may be repeated."""
    stage = Stage(make_client())
    assert (await stage.client.asign("echo")).key
    await stage.client.startup()
    await stage.client.startup()
    await stage.client.shutdown()
    await stage.client.shutdown()


async def test_many_first_calls_open_the_client_once(make_client: MakeClient) -> None:
    """Calls that come at the same time, before the client is open, all succeed."""
    stage = Stage(make_client())
    signatures = await asyncio.gather(*(stage.client.asign("echo", n=n) for n in range(20)))
    assert len({signature.key for signature in signatures}) == 20
    await stage.client.shutdown()


def test_client_may_be_used_on_one_loop_after_the_other(make_client: MakeClient) -> None:
    """A script that calls `asyncio.run` several times gets a working client each time."""
    stage = Stage(make_client())

    async def once(n: int) -> object:
        async with stage.client.worker():
            return await (await stage.client.asign("double", n=n)).aio_run(timeout=10)

    assert [asyncio.run(once(n)) for n in (1, 2)] == [2, 4]


async def test_directory_of_the_embedded_server_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MAGEFLOW_DIRECTORY` says where the embedded server keeps its data, relative to the working directory."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAGEFLOW_DIRECTORY", "data")
    stage = Stage(Mageflow())
    async with stage.client.worker():
        assert await (await stage.client.asign("double", n=1)).aio_run(timeout=10) == 2
    assert (tmp_path / "data").is_dir()
    assert not (tmp_path / ".mageflow").exists()


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "{x}"])
def test_namespace_is_checked(name: str) -> None:
    """A namespace of no or of strange letters is refused at once."""
    with pytest.raises(ValueError, match="namespace"):
        MageflowConfig(namespace=name)


async def test_unusable_url_is_named(namespace: str) -> None:
    """A socket that nobody listens on raises `StoreUnavailableError` with its path."""
    client = Mageflow(redis_client="unix:///nowhere/redis.sock", config=MageflowConfig(namespace=namespace))
    with pytest.raises(StoreUnavailableError, match=r"/nowhere/redis\.sock"):
        await client.startup()
