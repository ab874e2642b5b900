"""Workers as processes of their own: killed, stopped, started later."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from mageflow import Mageflow, Status, SwarmConfig
from mageflow.errors import FlowFailedError, WorkerLostError
from mageflow.store.keys import Keys
from tests.conftest import MakeClient
from tests.eventually import eventually

_FLOWS = """
import asyncio, os, sys, time
from pathlib import Path
from mageflow import Mageflow, MageflowConfig, handle_task_callback

config = MageflowConfig(
    namespace=os.environ["FLOWS_NAMESPACE"], crash_limit=int(os.environ.get("FLOWS_CRASH_LIMIT", "5"))
)
client = Mageflow(redis_client=os.environ["FLOWS_URL"], config=config)
folder = Path(__file__).parent
holds = folder / f"hold-{os.environ['WORKER']}"

def note(name, what):
    with (folder / "log").open("a") as log:
        log.write(f"{os.environ['WORKER']} {name} {what}\\n")

async def hold(name):
    note(name, "started")
    while holds.exists():
        await asyncio.sleep(0.01)
    note(name, "ended")
    return name

@client.task()
async def work(name: str) -> str:
    return await hold(name)

@client.task()
@handle_task_callback(is_idempotent=False)
async def only_once(name: str) -> str:
    return await hold(name)

@client.task()
def plain_work(name: str) -> str:
    note(name, "started")
    while holds.exists():
        time.sleep(0.01)
    note(name, "ended")
    return name

@client.task()
async def after(mageflow_results: str) -> str:
    note("after", mageflow_results)
    return mageflow_results + "!"

@client.task()
async def poison() -> None:
    note("poison", "started")
    os.kill(os.getpid(), 9)

@client.task()
async def mourn(mageflow_error: dict) -> None:
    note("mourn", mageflow_error["type"])

async def main():
    async with client.worker():
        note("worker", "ready")
        await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


@dataclass(kw_only=True)
class Crew:
    """Worker processes by name, and what their tasks noted."""

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    async def start(self, name: str, *, holding: bool = False, command: bool = False) -> subprocess.Popen[bytes]:
        """Start a worker, as a script or the command, and wait until it runs; `holding`: its tasks never end."""
        if holding:
            self.hold(name)
        arguments = ["-m", "mageflow.cli", "worker", "flows:client"] if command else ["flows.py"]
        with (self.folder / f"{name}.out").open("w") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment, "WORKER": name, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes[name] = process
        await eventually(lambda: self._is_ready(name), f"worker {name} is ready", deadline=25)
        return process

    def _is_ready(self, name: str) -> bool:
        return f"{name} worker ready" in self.log() or "worker of flows:client runs" in self.output(name)

    def output(self, name: str) -> str:
        """Return what a worker printed."""
        return (self.folder / f"{name}.out").read_text()

    def hold(self, name: str) -> None:
        """Let no task of this worker end from now on."""
        (self.folder / f"hold-{name}").touch()

    def let_go(self, name: str) -> None:
        """Let the tasks of this worker end."""
        (self.folder / f"hold-{name}").unlink()

    def log(self) -> list[str]:
        """Return what the tasks noted: worker, name, what."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def count(self, worker: str, what: str) -> int:
        """Return how many tasks of a worker noted this."""
        return sum(line.startswith(f"{worker} ") and line.endswith(f" {what}") for line in self.log())


@pytest.fixture
def crew(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Crew]:
    """Workers in a folder of their own; those that are left are killed."""
    (tmp_path / "flows.py").write_text(_FLOWS)
    crew = Crew(folder=tmp_path, environment={"FLOWS_URL": redis_url, "FLOWS_NAMESPACE": namespace})
    yield crew
    for process in crew.processes.values():
        process.kill()
        process.wait()


@pytest_asyncio.fixture
async def client(make_client: MakeClient) -> AsyncIterator[Mageflow]:
    """A client that runs no worker and knows no function."""
    client = make_client()
    await client.startup()
    yield client
    await client.shutdown()


async def test_killed_worker_loses_nothing(crew: Crew, client: Mageflow) -> None:
    """What a worker ran when it was killed with SIGKILL is done by another within 10 s, with all that follows."""
    lost = await crew.start("lost", holding=True)
    members = [await client.asign("work", name=f"m{n}") for n in range(6)]
    threads = [await client.asign("plain_work", name=f"t{n}") for n in range(2)]
    swarm = await client.aswarm(
        [*members, *threads, *[await client.asign("work", name=f"w{n}") for n in range(8)]],
        config=SwarmConfig(max_concurrency=8, stop_after_n_failures=1),
        is_swarm_closed=True,
    )
    step = await client.asign("work", name="step", success_callbacks=["after"])
    chain = await client.achain([step, "after", await client.asign("after")])
    handles = [await swarm.aio_run_no_wait(), await chain.aio_run_no_wait()]
    await eventually(lambda: crew.count("lost", "started") == 9, "the worker runs eight members and a step")
    await crew.start("other")
    lost.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    results = await asyncio.gather(*(handle.result(15) for handle in handles))
    assert time.monotonic() - killed_at < 10
    names = [*(f"m{n}" for n in range(6)), *(f"t{n}" for n in range(2)), *(f"w{n}" for n in range(8))]
    assert results == [names, "step!!"]
    await eventually(lambda: crew.log().count("other after step") == 2, "the step's own callback ran")
    ended = sorted(line.split()[1] for line in crew.log() if line.endswith("ended"))
    assert ended == sorted([*names, "step"])
    progress = await swarm.progress()
    assert (progress.done, progress.failed, progress.active) == (16, 0, 0)


async def test_work_waits_for_the_next_worker(crew: Crew, client: Mageflow) -> None:
    """When the only worker is killed, one that starts later does what ran and what waited, in less than 15 s."""
    lost = await crew.start("lost", holding=True)
    members = [await client.asign("work", name=f"m{n}") for n in range(6)]
    swarm = await client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: crew.count("lost", "started") == 2, "two members run")
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    assert await handle.status() is Status.ACTIVE
    await crew.start("next")
    assert await handle.result(15) == [f"m{n}" for n in range(6)]
    assert crew.count("next", "ended") == 6


async def test_stopped_worker_lets_its_tasks_end(crew: Crew, client: Mageflow) -> None:
    """`mageflow worker` on SIGTERM lets running tasks end and exits with 0; what comes then is done elsewhere."""
    first = await crew.start("first", command=True, holding=True)
    members = [await client.asign("work", name=f"m{n}") for n in range(4)]
    handles = [await member.aio_run_no_wait() for member in members[:2]]
    await eventually(lambda: crew.count("first", "started") == 2, "both tasks run")
    first.send_signal(signal.SIGTERM)
    await crew.start("second")
    crew.let_go("first")
    assert await asyncio.gather(*(handle.result(10) for handle in handles)) == ["m0", "m1"]
    await eventually(lambda: first.poll() is not None, "the worker ended")
    assert first.returncode == 0, crew.output("first")
    assert [await member.aio_run(timeout=10) for member in members[2:]] == ["m2", "m3"]
    assert (crew.count("first", "started"), crew.count("first", "ended"), crew.count("second", "ended")) == (2, 2, 2)


@pytest.mark.timeout(90)
async def test_task_that_kills_its_workers_fails_at_last(crew: Crew, client: Mageflow) -> None:
    """A task that ends its worker each time runs `crash_limit` times again, then it fails and its callbacks fire."""
    crew.environment["FLOWS_CRASH_LIMIT"] = "1"
    first = await crew.start("first")
    handle = await (await client.asign("poison", error_callbacks=["mourn"])).aio_run_no_wait()
    await eventually(lambda: first.poll() is not None, "the first worker is gone")
    second = await crew.start("second")
    await eventually(lambda: second.poll() is not None, "the second worker is gone", deadline=20)
    await crew.start("third")
    with pytest.raises(FlowFailedError) as caught:
        await handle.result(20)
    assert caught.value.type == "WorkerLostError"
    await eventually(lambda: crew.count("third", "WorkerLostError") == 1, "its error callback ran")
    assert [line for line in crew.log() if "worker" not in line] == [
        "first poison started",
        "second poison started",
        "third mourn WorkerLostError",
    ]


async def test_task_that_must_not_run_again_fails_with_its_worker(crew: Crew, client: Mageflow) -> None:
    """With `is_idempotent=False` the death of its worker fails a task: it does not run again, whoever delivers it."""
    lost = await crew.start("lost", holding=True)
    once = await client.asign("only_once", name="once", success_callbacks=["after"])
    handle = await once.aio_run_no_wait()
    await eventually(lambda: crew.count("lost", "started") == 1, "it runs")
    await crew.start("other")
    lost.send_signal(signal.SIGKILL)
    with pytest.raises(FlowFailedError, match="must not run again") as caught:
        await handle.result(15)
    assert caught.value.type == WorkerLostError.__name__
    assert await (await client.asign("only_once", name="next")).aio_run(timeout=10) == "next"
    assert [line for line in crew.log() if "worker" not in line] == [
        "lost once started",
        "other next started",
        "other next ended",
    ]


async def test_stopped_worker_lets_end_what_it_began_before_its_queue_failed(
    crew: Crew, client: Mageflow, redis_url: str
) -> None:
    """A task that runs since before the worker could not read its queue has its end too when the worker stops."""
    first = await crew.start("first", command=True, holding=True)
    early = await (await client.asign("work", name="early")).aio_run_no_wait()
    await eventually(lambda: crew.count("first", "started") == 1, "it runs")
    with redis.Redis.from_url(redis_url) as connection:
        connection.delete(f"{Keys(client.config.namespace).queue}:work")
    await eventually(lambda: "could not take deliveries" in crew.output("first"), "the queue failed")
    late = await client.asign("after", mageflow_results="late")
    assert await late.aio_run(timeout=10) == "late!"
    first.send_signal(signal.SIGTERM)
    await eventually(lambda: "stops; a second signal" in crew.output("first"), "the worker stops")
    await crew.start("second")
    crew.let_go("first")
    assert await early.result(10) == "early"
    await eventually(lambda: first.poll() is not None, "the worker ended")
    assert first.returncode == 0, crew.output("first")
    assert (crew.count("first", "ended"), crew.count("second", "ended")) == (1, 0)


@pytest.mark.long
async def test_killed_worker_under_load(crew: Crew, client: Mageflow) -> None:
    """Two workers in the middle of many short tasks: the death of one costs no result and repeats no end."""
    await crew.start("one")
    lost = await crew.start("two")
    names = [f"n{n}" for n in range(300)]
    members = [await client.asign("work", name=name) for name in names]
    config = SwarmConfig(max_concurrency=10, stop_after_n_failures=1)
    swarm = await client.aswarm(members, config=config, is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: crew.count("two", "ended") >= 20, "both workers are at work")
    crew.hold("two")
    lost.send_signal(signal.SIGKILL)
    assert await handle.result(15) == names
    progress = await swarm.progress()
    assert (progress.total, progress.done, progress.failed, progress.canceled) == (300, 300, 0, 0)


_SURVIVAL = """
import asyncio, sys
from mageflow import Mageflow

client = Mageflow()

@client.task()
async def double(n: int) -> int:
    return n * 2

async def begin():
    swarm = await client.aswarm([await client.asign("double", n=n) for n in range(3)], is_swarm_closed=True)
    print((await swarm.aio_run_no_wait()).key)
    await client.shutdown()

async def finish(key):
    async with client.worker():
        swarm = await client.load_signature(key)
        print(await swarm.handle.result(10))

asyncio.run(begin() if len(sys.argv) == 1 else finish(sys.argv[1]))
"""


def test_flow_survives_the_end_of_every_process(tmp_path: Path) -> None:
    """On the embedded default a flow that one process started is finished by a later one, though the server ended."""
    (tmp_path / "flow.py").write_text(_SURVIVAL)
    environment = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "MAGEFLOW_DIRECTORY")}

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, "-W", "error", "flow.py", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.strip()

    key = run()
    assert (tmp_path / ".mageflow").is_dir()
    assert run(key) == "[0, 2, 4]"
