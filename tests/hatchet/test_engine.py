"""The engine for tests does what Hatchet's does, as its own client and worker see it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hatchet_sdk import ClientConfig, Context, DurableContext, FailedTaskRunExceptionGroup, Hatchet
from pydantic import BaseModel

from mageflow.flow.ids import new_id
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.subjects import in_thread

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]
DEADLINE = 60.0


class Number(BaseModel):
    """A message of one number."""

    n: int = 0


class Bare:
    """Hatchet without MageFlow."""

    def __init__(self) -> None:
        self.hatchet = Hatchet(config=ClientConfig(namespace=f"bare{new_id()}".lower()))
        self.attempts: dict[int, list[int]] = {}
        self.tasks = {task.name.partition("_")[2]: task for task in (*self._plain(), *self._slow())}

    def _plain(self) -> list[Any]:
        hatchet = self.hatchet

        @hatchet.task(name="flaky", input_validator=Number, retries=2)
        async def flaky(message: Number, ctx: Context) -> dict[str, int]:
            self.attempts.setdefault(message.n, []).append(ctx.attempt_number)
            if ctx.retry_count < message.n:
                text = f"attempt {ctx.attempt_number}"
                raise ValueError(text)
            return {"attempt": ctx.attempt_number}

        @hatchet.task(name="blocking", input_validator=Number)
        def blocking(message: Number, _ctx: Context) -> dict[str, int]:
            return {"n": message.n + 1}

        @hatchet.task(name="large", input_validator=Number)
        async def large(message: Number, _ctx: Context) -> dict[str, str]:
            return {"text": "x" * message.n}

        return [flaky, blocking, large]

    def _slow(self) -> list[Any]:
        hatchet = self.hatchet

        @hatchet.task(name="slow", input_validator=Number, execution_timeout=timedelta(seconds=1))
        async def slow(message: Number, ctx: Context) -> dict[str, int]:
            await asyncio.sleep(message.n)
            return {"attempt": ctx.attempt_number}

        @hatchet.task(name="idle", input_validator=Number, schedule_timeout=timedelta(seconds=1))
        async def idle(message: Number, _ctx: Context) -> dict[str, int]:
            return {"n": message.n}

        @hatchet.durable_task(name="durable", input_validator=Number)
        async def durable(message: Number, ctx: DurableContext) -> dict[str, Any]:
            before = await ctx.aio_now()
            await ctx.aio_sleep_for(timedelta(seconds=1))
            return {"slept": (await ctx.aio_now() - before).total_seconds(), "n": message.n}

        return [slow, idle, durable]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bare(hatchet_environment: Address | None) -> AsyncIterator[Bare]:
    """Tasks with a worker."""
    bare = Bare()
    served = [task for name, task in bare.tasks.items() if name != "idle"]
    serving = in_thread(bare.hatchet.worker("bare", slots=10, workflows=served), bare.hatchet)
    serving.__enter__()
    yield bare
    await asyncio.to_thread(serving.__exit__, None, None, None)


async def _status(bare: Bare, run: str) -> str:
    return (await bare.hatchet.runs.aio_get_details(run)).status.value


async def _is_shown(bare: Bare, run: str, status: str) -> bool:
    return (await bare.hatchet.runs.aio_get_status(run)).value == status


async def test_retries(bare: Bare) -> None:
    """`retries=2` are three attempts; the last error is what the caller gets."""
    assert await bare.tasks["flaky"].aio_run(Number(n=2)) == {"attempt": 3}
    with pytest.raises(FailedTaskRunExceptionGroup) as failure:
        await bare.tasks["flaky"].aio_run(Number(n=3))
    assert "attempt 3" in str(failure.value.exceptions)
    assert bare.attempts == {2: [1, 2, 3], 3: [1, 2, 3]}


async def test_plain_function(bare: Bare) -> None:
    """A plain function runs in a thread."""
    assert await bare.tasks["blocking"].aio_run(Number(n=1)) == {"n": 2}


async def test_execution_timeout(bare: Bare) -> None:
    """A run whose time is up has failed, and the caller is told why."""
    with pytest.raises(FailedTaskRunExceptionGroup) as failure:
        await bare.tasks["slow"].aio_run(Number(n=30))
    assert "exceeded timeout" in str(failure.value.exceptions)


async def test_schedule_timeout(bare: Bare) -> None:
    """A run that no worker takes in time is canceled, to REST it failed; who waits for it gets nothing."""
    bare.hatchet._client.admin.put_workflow(bare.tasks["idle"].to_proto())
    ref = await bare.tasks["idle"].aio_run(Number(n=1), wait_for_result=False)
    assert await ref.aio_result() == {}
    assert await _status(bare, ref.workflow_run_id) == "CANCELLED"
    await eventually(lambda: _is_shown(bare, ref.workflow_run_id, "FAILED"), "it is shown as failed", DEADLINE)


async def test_cancel(bare: Bare) -> None:
    """A run that is canceled reads so, and who waits for it gets nothing."""
    ref = await bare.tasks["slow"].aio_run(Number(n=30), wait_for_result=False)
    await bare.hatchet.runs.aio_cancel(ref.workflow_run_id)
    assert await ref.aio_result() == {}
    assert await _status(bare, ref.workflow_run_id) == "CANCELLED"
    await eventually(lambda: _is_shown(bare, ref.workflow_run_id, "CANCELLED"), "it is shown so", DEADLINE)


async def test_unknown_name(bare: Bare) -> None:
    """A name that nobody registered gets the id of a run that never is."""
    stub = bare.hatchet.stubs.task(name="nobody", input_validator=Number)
    ref = await stub.aio_run(Number(n=1), wait_for_result=False)
    assert ref.workflow_run_id
    listed = await bare.hatchet.runs.aio_list()
    assert ref.workflow_run_id not in [row.workflow_run_external_id for row in listed.rows]


async def test_large_output(bare: Bare) -> None:
    """An output above the limit is never taken: the run goes on as running."""
    ref = await bare.tasks["large"].aio_run(Number(n=5_000_000), wait_for_result=False)
    await eventually(lambda: _is(bare, ref.workflow_run_id, "RUNNING"), "it runs", DEADLINE)
    assert await bare.tasks["blocking"].aio_run(Number(n=1)) == {"n": 2}
    assert await _status(bare, ref.workflow_run_id) == "RUNNING"
    await bare.hatchet.runs.aio_cancel(ref.workflow_run_id)


async def _is(bare: Bare, run: str, status: str) -> bool:
    return await _status(bare, run) == status


async def test_durable(bare: Bare) -> None:
    """A durable task sleeps and remembers."""
    result = await bare.tasks["durable"].aio_run(Number(n=1))
    assert result["n"] == 1
    assert result["slept"] >= 0.9


async def test_null_character(bare: Bare) -> None:
    """A payload with a character that the database cannot hold is refused."""
    with pytest.raises(Exception, match="null character"):
        await bare.tasks["blocking"].aio_run(Number(n=1), additional_metadata={"a": "\0"}, wait_for_result=False)


_LOST = """
import asyncio, sys
from hatchet_sdk import ClientConfig, Context, EmptyModel, Hatchet
hatchet = Hatchet(config=ClientConfig(namespace=sys.argv[1]))
@hatchet.task(name="lost")
async def lost(message: EmptyModel, ctx: Context) -> dict[str, int]:
    print(ctx.attempt_number, flush=True)
    if sys.argv[2] == "stays":
        return {"attempt": ctx.attempt_number}
    await asyncio.sleep(600)
    return {}
if __name__ == "__main__":
    hatchet.worker(sys.argv[2], slots=1, workflows=[lost]).start()
"""


class Workers:
    """Workers in processes of their own; they print the number of each attempt that they begin."""

    def __init__(self, bare: Bare, script: Path) -> None:
        script.write_text(_LOST)
        self.bare = bare
        self._script = script
        self._processes: list[subprocess.Popen[bytes]] = []

    async def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a worker; return when it listens."""
        process = self._start(name)
        await eventually(lambda: _is_active(self.bare, name), "the worker listens", DEADLINE)
        return process

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(self._script), self.bare.hatchet.namespace, name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self._processes.append(process)
        return process

    async def run(self) -> Any:
        """Trigger a run."""
        return await self.bare.hatchet.stubs.task(name="lost").aio_run(wait_for_result=False)

    def kill(self) -> None:
        """Kill those that are left."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


async def _attempt(worker: subprocess.Popen[bytes]) -> int:
    """Return the number of the next attempt that a worker begins."""
    assert worker.stdout is not None
    while not (line := await asyncio.to_thread(worker.stdout.readline)).strip().isdigit():
        assert line, "the worker ended"
    return int(line)


@pytest.fixture
def workers(bare: Bare, tmp_path: Path) -> Iterator[Workers]:
    """Workers that go with the test."""
    workers = Workers(bare, tmp_path / "lost.py")
    yield workers
    workers.kill()


async def test_lost_worker(workers: Workers) -> None:
    """What a killed worker ran goes to another, as a further attempt, though the task has no retries."""
    first = await workers.start("goes")
    ref = await workers.run()
    await _attempt(first)
    os.killpg(first.pid, signal.SIGKILL)
    await workers.start("stays")
    assert dict(await asyncio.wait_for(ref.aio_result(), DEADLINE)) == {"attempt": 2}


async def test_silent_worker(workers: Workers) -> None:
    """What a silent worker ran goes to another; heard of again, it is given work on the stream that it always had."""
    first = await workers.start("goes")
    ref = await workers.run()
    await _attempt(first)
    os.killpg(first.pid, signal.SIGSTOP)
    second = await workers.start("stays")
    assert dict(await asyncio.wait_for(ref.aio_result(), DEADLINE)) == {"attempt": 2}
    os.killpg(second.pid, signal.SIGKILL)
    os.killpg(first.pid, signal.SIGCONT)
    await eventually(lambda: _only_active(workers.bare, "goes"), "it alone is heard of", DEADLINE)
    await workers.run()
    assert await asyncio.wait_for(_attempt(first), DEADLINE) == 1


async def _active(bare: Bare) -> set[str]:
    rows = (await bare.hatchet.workers.aio_list()).rows or ()
    names = {row.name for row in rows if row.status == "ACTIVE"}
    return {name.removeprefix(bare.hatchet.namespace) for name in names if name.startswith(bare.hatchet.namespace)}


async def _is_active(bare: Bare, name: str) -> bool:
    return name in await _active(bare)


async def _only_active(bare: Bare, name: str) -> bool:
    return await _active(bare) == {"bare", name}
