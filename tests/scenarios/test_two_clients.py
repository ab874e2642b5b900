"""Two clients side by side in one process; the functions of the module."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import mageflow
from mageflow import Mageflow, MageflowConfig
from mageflow.errors import SignatureNotFoundError, UnrecognizedTaskError
from mageflow.registry import find_client
from tests.scenarios.support import Stage, nothing


@pytest_asyncio.fixture
async def second(redis_url: str, second_namespace: str) -> AsyncIterator[Stage]:
    """A client of another namespace, with a worker."""
    stage = Stage(Mageflow(redis_client=redis_url, config=MageflowConfig(namespace=second_namespace)))
    async with stage.client.worker():
        yield stage


async def test_two_namespaces_work_side_by_side(stage: Stage, second: Stage) -> None:
    """Flows of two clients run at the same time, each on its own worker and with its own functions."""
    swarms = [
        await item.client.aswarm(
            [await item.client.asign("double", n=n + base) for n in range(20)], is_swarm_closed=True
        )
        for item, base in ((stage, 0), (second, 100))
    ]
    results = await asyncio.gather(*(swarm.aio_run(timeout=10) for swarm in swarms))
    assert results == [[n * 2 for n in range(20)], [(n + 100) * 2 for n in range(20)]]
    assert {message.n < 100 for message in stage.got("double")} == {True}
    assert {message.n < 100 for message in second.got("double")} == {False}


async def test_namespaces_know_nothing_of_each_other(stage: Stage, second: Stage) -> None:
    """Keys and tasks of one namespace are unknown in the other."""
    signature = await stage.client.asign("echo")
    assert await second.client.load_signature(signature.key) is None
    with pytest.raises(SignatureNotFoundError, match=signature.key):
        await second.client.achain([signature.key, "echo"])
    stage.client.task(name="only-here")(nothing)
    with pytest.raises(UnrecognizedTaskError, match="only-here"):
        await second.client.asign("only-here")


async def test_module_functions_use_the_client_of_the_running_task(stage: Stage, second: Stage) -> None:
    """Inside a task, also in its thread and in its asyncio tasks, module functions mean the client that runs it."""

    async def fork(depth: int) -> str:
        async def create() -> str:
            return (await mageflow.asign("echo", depth=depth)).key

        return await asyncio.create_task(create())

    def of_thread() -> str:
        return find_client().config.namespace

    for item in (stage, second):
        item.client.task(name="fork")(fork)
        item.client.task(name="of-thread")(of_thread)
    for item in (stage, second):
        namespace = item.client.config.namespace
        key = await (await item.client.asign("fork", depth=1)).aio_run(timeout=10)
        assert key.startswith(f"mf:{namespace}:")
        assert await (await item.client.asign("of-thread")).aio_run(timeout=10) == namespace


async def test_every_module_function_works_inside_a_task(stage: Stage, second: Stage) -> None:
    """`asign`, `achain`, `aswarm`, `load_signature` and their aliases work on the running task's client."""

    async def build() -> list[str]:
        chain = await mageflow.achain([await mageflow.sign("double", n=1), "add"], name="c")
        other = await mageflow.chain(["double", "add"], success="note", n=2)
        swarm = await mageflow.aswarm([chain, other], task_name="s", is_swarm_closed=True)
        assert await mageflow.load_signature(swarm.key) is not None
        outer = await mageflow.swarm([swarm], is_swarm_closed=True)
        loaded = await mageflow.load_sign(outer.key)
        assert loaded is not None
        return [(await loaded.aio_run_no_wait()).key]

    second.client.task(name="build")(build)
    [key] = await (await second.client.asign("build")).aio_run(timeout=10)
    outer = await second.client.load_signature(key)
    assert outer is not None
    assert await outer.handle.result(10) == [[3, 5]]


_ONE_AND_MORE = """
import asyncio, sys
import mageflow
from mageflow.errors import AmbiguousClientError

async def refused(*namespaces):
    try:
        await mageflow.asign("echo")
    except AmbiguousClientError as error:
        assert error.namespaces == namespaces, error.namespaces
        assert all(name in str(error) for name in namespaces)
    else:
        raise SystemExit("not refused")

async def main(url, namespace):
    await refused()
    config = mageflow.MageflowConfig(namespace=namespace)
    only = mageflow.Mageflow(redis_client=url, config=config)
    only.task(name="echo")(lambda msg: msg)
    assert (await mageflow.asign("echo", a=1)).key.startswith("mf:" + namespace)
    second = mageflow.Mageflow(redis_client=url, config=mageflow.MageflowConfig(namespace=namespace + "-2"))
    await refused(namespace, namespace + "-2")
    assert (await only.asign("echo")).key
    await only.shutdown()

asyncio.run(main(*sys.argv[1:]))
"""


def test_module_functions_outside_a_task_need_exactly_one_client(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """They use the only client; with none or several `AmbiguousClientError` names the namespaces."""
    script = tmp_path / "clients.py"
    script.write_text(_ONE_AND_MORE)
    command = [sys.executable, "-W", "error", str(script), redis_url, namespace]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert finished.returncode == 0, finished.stderr


async def test_two_clients_of_one_namespace_share_the_work(stage: Stage, make_client: Callable[..., Mageflow]) -> None:
    """What one client signs the other may run; each knows its own functions by the same names."""
    other = Stage(make_client())
    async with other.client.worker():
        swarm = await other.client.aswarm(["double"] * 30, is_swarm_closed=True)
        assert await swarm.aio_run({"n": 1}, timeout=10) == [2] * 30
    assert len(stage.got("double")) + len(other.got("double")) == 30


async def test_client_works_again_after_a_shutdown(make_client: Callable[..., Mageflow]) -> None:
    """A client can be closed and opened again, and runs a worker again."""
    stage = Stage(make_client())
    for n in range(2):
        async with stage.client.worker():
            assert await (await stage.client.asign("double", n=n)).aio_run(timeout=10) == n * 2
    signature = await stage.client.asign("double", n=9)
    await stage.client.shutdown()
    async with stage.client.worker():
        assert await signature.aio_run(timeout=10) == 18
