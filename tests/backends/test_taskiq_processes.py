"""TaskIQ: workers of its own command, killed in the middle; clients that only sign."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from taskiq import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from mageflow import Mageflow, MageflowConfig, Status, SwarmConfig
from mageflow.store.keys import Keys
from tests.eventually import eventually

_SHOP = """
import asyncio, os, time
from pathlib import Path
from taskiq import TaskiqEvents
from taskiq_redis import {kind}
from mageflow import Mageflow, MageflowConfig

broker = {kind}({url!r}, queue_name={queue!r}, socket_timeout=None)
client = Mageflow(broker, {url!r}, config=MageflowConfig(namespace={namespace!r}))
folder = Path(__file__).parent

def note(what):
    with (folder / "log").open("a") as log:
        log.write(f"{{os.getpid()}} {{what}}\\n")

@broker.on_event(TaskiqEvents.WORKER_STARTUP, TaskiqEvents.WORKER_SHUTDOWN)
async def tell(state):
    note("event")

@broker.task("work")
async def work(number: int) -> int:
    note(f"started {{number}}")
    while (folder / "hold").exists():
        await asyncio.sleep(0.01)
    note(f"ended {{number}}")
    return number

@broker.task("plain-work")
def plain_work(number: int) -> int:
    note(f"started {{number}}")
    while (folder / "hold").exists():
        time.sleep(0.01)
    note(f"ended {{number}}")
    return number

@client.task()
async def add_up(mageflow_results: list) -> int:
    note("added up")
    return sum(mageflow_results)
"""
_BREAKING = """
@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def remember(state):
    state.loop = asyncio.get_running_loop()

def is_breaking():
    return (folder / f"break-{os.getpid()}").exists()

@broker.task("plain-late")
def plain_late(number: int):
    note(f"started {number}")
    while (folder / "hold").exists() or (is_breaking() and broker.state.loop.is_running()):
        time.sleep(0.01)
    return asyncio.sleep(0, number)

def breaking(listen):
    async def messages():
        pending = aiter(listen())
        while True:
            message = asyncio.ensure_future(anext(pending))
            while not message.done():
                await asyncio.wait([message], timeout=0.01)
                if is_breaking():
                    message.cancel()
                    raise ConnectionError("the broker is away")
            yield message.result()
    return messages

broker.listen = breaking(broker.listen)
"""
_WORKERS = 4


@dataclass(kw_only=True)
class Shop:
    """A module with a broker, tasks and a client; worker processes that TaskIQ's command runs of it."""

    folder: Path
    namespace: str
    url: str
    kind: type[ListQueueBroker | RedisStreamBroker]
    process: subprocess.Popen[bytes] | None = None

    @property
    def queue(self) -> str:
        """Where its messages wait."""
        return f"{Keys(self.namespace).queue}:shop"

    def write(self) -> None:
        """Write the module."""
        text = _SHOP.format(kind=self.kind.__name__, url=self.url, queue=self.queue, namespace=self.namespace)
        (self.folder / "shop.py").write_text(text)

    async def start(self, *options: str) -> None:
        """Start the workers and wait until each is ready."""
        arguments = ["-m", "taskiq", "worker", "shop:broker", "--log-level", "WARNING"]
        arguments += ["--workers", str(_WORKERS), "--max-threadpool-threads", "20", *options]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for
                [sys.executable, *arguments],
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        await eventually(lambda: len(self.noted("event")) == _WORKERS, "four workers are ready", 25, found=self.output)

    def output(self) -> str:
        """Return what the workers printed."""
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def noted(self, what: str) -> list[tuple[int, str]]:
        """Return process and text of the notes that begin so."""
        path = self.folder / "log"
        lines = [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(process), text) for process, text in lines if text.startswith(what)]

    def hold(self) -> None:
        """Let no task end."""
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        """Let tasks end."""
        (self.folder / "hold").unlink()

    def load(self) -> ModuleType:
        """Import the module here, for its task objects."""
        spec = importlib.util.spec_from_file_location(f"shop_{self.namespace}", self.folder / "shop.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    def stranger(self) -> Mageflow:
        """Return a client that knows the queue and none of the tasks."""
        make = cast("Callable[..., AsyncBroker]", self.kind)
        broker = make(self.url, queue_name=self.queue)
        return Mageflow(broker, self.url, config=MageflowConfig(namespace=self.namespace))


@pytest.fixture(params=[RedisStreamBroker, ListQueueBroker])
def shop(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Shop]:
    """The module, not started; what runs of it in the end is killed."""
    shop = Shop(folder=tmp_path, namespace=namespace, url=redis_url, kind=request.param)
    shop.write()
    yield shop
    if shop.process is not None:
        if shop.process.poll() is None:
            os.killpg(shop.process.pid, signal.SIGKILL)
        shop.process.wait()


async def _swarm(client: Mageflow, tasks: list[Any], first: int) -> Any:
    members = [await client.asign(tasks[n % len(tasks)], number=first + n) for n in range(20)]
    swarm = await client.aswarm(members, config=SwarmConfig(max_concurrency=10), is_swarm_closed=True)
    return await client.achain([swarm, "add_up"])


@pytest.mark.timeout(90)
async def test_four_workers_and_two_clients_that_only_sign(shop: Shop) -> None:
    """Flows of a client with the code and of one without it end on four workers, also when one of them is killed."""
    await shop.start()
    module = shop.load()
    near, far = module.client, shop.stranger()
    shop.hold()
    flows = [await _swarm(near, [module.work, module.plain_work], 0), await _swarm(far, ["work", "plain-work"], 100)]
    handles = [await flow.aio_run_no_wait() for flow in flows]
    await eventually(lambda: len(shop.noted("started")) == 20, "both swarms run ten", 20, found=shop.output)
    lost = shop.noted("started")[0][0]
    os.kill(lost, signal.SIGKILL)
    killed_at = time.monotonic()
    begun = len([process for process, _ in shop.noted("started") if process == lost])
    await eventually(
        lambda: len(shop.noted("started")) >= 20 + begun, "what it ran starts again", 20, found=shop.output
    )
    assert time.monotonic() - killed_at < 10
    shop.let_go()
    assert await asyncio.gather(*(handle.result(20) for handle in handles)) == [190, 2190]
    ended = [text for _, text in shop.noted("ended")]
    assert sorted(ended) == sorted(f"ended {number}" for number in (*range(20), *range(100, 120)))
    assert len(shop.noted("added up")) == 2
    for client in (near, far):
        await client.shutdown()


async def test_workers_end_gracefully(shop: Shop) -> None:
    """SIGTERM to TaskIQ's command lets running tasks of flows end, and records them."""
    await shop.start()
    client = shop.stranger()
    shop.hold()
    handles = [await (await client.asign(name, number=1)).aio_run_no_wait() for name in ("work", "plain-work")]
    await eventually(lambda: len(shop.noted("started")) == 2, "both run", 20, found=shop.output)
    assert shop.process is not None
    shop.process.terminate()
    shop.let_go()
    await eventually(lambda: cast("Any", shop.process).poll() is not None, "the workers ended", 20, found=shop.output)
    assert [await handle.status() for handle in handles] == [Status.DONE, Status.DONE]
    assert len(shop.noted("event")) == 2 * _WORKERS
    await client.shutdown()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("shop", [RedisStreamBroker], indirect=True)
async def test_worker_whose_broker_raises(shop: Shop) -> None:
    """A thread that needs the loop of a process that TaskIQ gives up does not hold it: its task runs in another."""
    module = shop.folder / "shop.py"
    module.write_text(module.read_text() + _BREAKING)
    await shop.start()
    client = shop.stranger()
    shop.hold()
    handle = await (await client.asign("plain-late", number=3)).aio_run_no_wait()
    await eventually(lambda: len(shop.noted("started")) == 1, "the task runs", 20, found=shop.output)
    (shop.folder / f"break-{shop.noted('started')[0][0]}").touch()
    shop.let_go()
    assert await handle.result(30) == 3
    assert len(shop.noted("started")) == 2
    await client.shutdown()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("shop", [RedisStreamBroker], indirect=True)
async def test_workers_that_reload_their_code(shop: Shop) -> None:
    """With `--reload` a task that runs when the code changes ends, and later flows run the new code."""
    await shop.start("--reload", "--reload-dir", str(shop.folder))
    client = shop.stranger()
    shop.hold()
    handle = await (await client.asign("work", number=1)).aio_run_no_wait()
    await eventually(lambda: len(shop.noted("started")) == 1, "the task runs", 20, found=shop.output)
    module = shop.folder / "shop.py"
    module.write_text(module.read_text().replace("return number", "return number + 1000"))
    shop.let_go()
    assert await handle.result(20) == 1
    await eventually(
        lambda: len(shop.noted("event")) == 3 * _WORKERS, "the workers started anew", 40, found=shop.output
    )
    assert await (await client.asign("work", number=2)).aio_run(timeout=20) == 1002
    assert len(shop.noted("started")) == 2
    await client.shutdown()
