"""What a behaviour is tested on: a client with tasks, workers, the ledger of what they did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mageflow import FlowHandle, Mageflow, MageflowConfig, Signature
from mageflow.backends.base import Capabilities, Verdict
from mageflow.engine import Engine
from mageflow.errors import FlowFailedError, ResultTimeoutError
from mageflow.flow.command import Dispatch
from mageflow.flow.ids import id_of, new_id
from mageflow.testing.contracts.ledger import TURNED_AWAY, Ledger, watched_runner
from mageflow.testing.contracts.subject import Subject
from mageflow.testing.contracts.tasks import register_tasks
from mageflow.testing.contracts.worker import environment_of
from mageflow.testing.waiting import DEADLINE, eventually

_START = 9 * DEADLINE
_CLOSED = 2 * DEADLINE
_NO_PROCESSES = "the task manager has no worker processes"


class Worker:
    """A worker process, and what it printed."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.process = process
        self._output = output

    def printed(self) -> str:
        """Return the end of what it printed."""
        return self._output.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """Kill it with SIGKILL, with every process that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        await eventually(lambda: self.process.poll() is not None, f"{self.name} ends", found=self.printed)
        return self.process.returncode


class Stage:
    """A client with the tasks of the suite; `ledger` tells what they did, in every process of the test."""

    def __init__(self, subject: Subject, config: MageflowConfig, folder: Path) -> None:
        self.subject = subject
        self.config = config
        self.ledger = Ledger(folder)
        self.client = subject.make_client(config)
        self._workers: list[Worker] = []
        self._exits = AsyncExitStack()
        self.tasks = register_tasks(self.client, self.ledger)

    @asynccontextmanager
    async def opened(self, *, serving: bool) -> AsyncGenerator[Stage]:
        """Open the client, with a worker or without; at the exit every gate is opened and everything is closed.

        Raises:
            AssertionError: something stalled or was left behind.
        """
        self._exits.enter_context(watched_runner(self.ledger))
        try:
            if serving:
                await self._exits.enter_async_context(self.subject.serve(self.client))
            else:
                await self.client.startup()
                self._exits.push_async_callback(self.client.shutdown)
            yield self
            findings = (await self.client.repair()).findings
            assert not findings, f"the namespace is left in disorder: {findings}"
        finally:
            self.ledger.open_all()
            for worker in self._workers:
                worker.kill()
            await self._close()

    async def _close(self) -> None:
        try:
            await asyncio.wait_for(self._exits.aclose(), _CLOSED)
        except TimeoutError as error:
            msg = f"the worker does not end within {_CLOSED:g} s: it waits for a run whose end was never reported"
            raise AssertionError(msg) from error

    async def add_client(self, *, with_tasks: bool = False) -> Mageflow:
        """Return another client of the namespace that only signs."""
        client = self.subject.make_client(self.config)
        if with_tasks:
            register_tasks(client, self.ledger)
        await client.startup()
        self._exits.push_async_callback(client.shutdown)
        return client

    async def add_workers(self, *names: str) -> list[Worker]:
        """Start worker processes and return once each of them ran a task; skips the test where there are none."""
        if self.subject.worker is None:
            pytest.skip(_NO_PROCESSES)
        workers = [self._start_worker(self.subject.worker, name) for name in names]
        for worker in workers:
            await self._is_ready(worker)
        return workers

    def _start_worker(self, command: Sequence[str], name: str) -> Worker:
        output = self.ledger.folder / f"{name}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - the command of the one who tests
                command,
                env={**os.environ, **self.subject.environment, **environment_of(self.config, self.ledger.folder, name)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(Worker(name, process, output))
        return self._workers[-1]

    async def _is_ready(self, worker: Worker) -> None:
        """Run tasks until this worker took one."""
        while worker.name not in self.ledger.of("hello"):
            assert worker.process.poll() is None, f"{worker.name} ended: {worker.printed()}"
            handle = await self.start("hello")
            await eventually(
                lambda handle=handle: self._has_ended(handle), f"{worker.name} takes work", _START, found=worker.printed
            )

    async def _has_ended(self, handle: FlowHandle[Any]) -> bool:
        return (await handle.status()).ended

    async def start(self, task: object, /, msg: Any = None, **arguments: Any) -> FlowHandle[Any]:
        """Start a task."""
        return await (await self.client.asign(task, **arguments)).aio_run_no_wait(msg)

    async def run(self, task: object, /, msg: Any = None, **arguments: Any) -> Any:
        """Run a task and return its result."""
        return await self.result(await self.start(task, msg, **arguments))

    async def result(self, handle: FlowHandle[Any], deadline: float = DEADLINE) -> Any:
        """Return the result of a flow; fail with what it waits on when it does not come in time."""
        try:
            return await handle.result(deadline)
        except ResultTimeoutError as error:
            msg = f"{error}; it waits on {await self.client.why(handle.key)}; the tasks noted {self.ledger}"
            raise AssertionError(msg) from error

    async def failure(self, handle: FlowHandle[Any], deadline: float = DEADLINE) -> FlowFailedError:
        """Return the error of a flow that is to fail."""
        with pytest.raises(FlowFailedError) as caught:
            pytest.fail(f"it did not fail, its result is {await self.result(handle, deadline)!r}")
        return caught.value

    async def noted(self, task: str, what: object, count: int = 1) -> None:
        """Wait until a task has noted this so often."""
        await eventually(
            lambda: self.ledger.count(task, what) >= count, f"{task} notes {what!r} {count} x", found=self._notes
        )

    async def settled(self, task: str, count: int) -> list[Any]:
        """Return what a task noted, once it did so often and what was submitted later has run; more is a failure."""
        await eventually(
            lambda: len(self.ledger.of(task)) >= count, f"{task} notes something {count} x", found=self._notes
        )
        await self.run("hello")
        notes = self.ledger.of(task)
        assert len(notes) == count, f"{task} ran {len(notes)} x, not {count} x: {notes}"
        return notes

    def _notes(self) -> str:
        return str(self.ledger)

    async def engine(self) -> Engine:
        """Return what the client is made of."""
        return await self.client._host.open()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - not for users of a client

    async def capabilities(self) -> Capabilities:
        """Return what the backend says of itself."""
        return (await self.engine()).backend.capabilities

    async def dispatch_of(self, signature: Signature[Any, Any], message: Mapping[str, Any]) -> Dispatch:
        """Return the latest dispatch of a started task, as the backend was given it."""
        engine = await self.engine()
        identifier = id_of(self.config.namespace, signature.key)
        [record] = await engine.store.read([identifier])
        assert record is not None, f"{signature.key} is gone"
        task = await engine.catalog.find(signature.task_name or "")
        return Dispatch(
            id=identifier, dispatch=record.number("d"), attempt=record.number("a"), task=task, message=message
        )

    async def deliver(self, dispatch: Dispatch) -> None:
        """Hand a dispatch over to the task manager once more."""
        [submission] = await (await self.engine()).backend.submit([dispatch])
        assert submission.verdict is Verdict.ACCEPTED, f"{dispatch} was not taken: {submission}"

    async def turned_away(self, dispatch: Dispatch, count: int = 1) -> list[str]:
        """Wait until so many deliveries of a signature were turned away, and return why."""

        def reasons() -> list[str]:
            return [why for key, why in self.ledger.of(TURNED_AWAY) if key.endswith(dispatch.id)]

        await eventually(
            lambda: len(reasons()) >= count, f"{count} deliveries of {dispatch.id} are turned away", found=self._notes
        )
        return reasons()


def new_namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"contract-{new_id()}"
