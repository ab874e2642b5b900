"""The worker processes of the demo: started, killed and stopped as what they are, processes of the operating system."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_CLIENT = "mageflow.cli.demo.worker_client:client"
_STOP_SECONDS = 10.0


class WorkerEndedError(Exception):
    """Raised when a worker process ended that nobody killed; its log says why."""

    def __init__(self, number: int, code: int, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines()[-5:]
        super().__init__(f"worker {number} ended with code {code}; the end of {log}:\n" + "\n".join(lines))


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerProcess:
    """A worker: its number in the demo, its process and its log; `killed` once the demo has killed it."""

    number: int
    process: Process
    log: Path
    killed: bool = False


class WorkerProcesses:
    """The demo's workers, from `async with` to its end, which stops them all and waits for them.

    Args:
        count: How many to start on entry.
        folder: Where their logs go.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._count = count
        self._folder = folder
        self._workers: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            await self.start_another()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(_stop(worker.process) for worker in self._workers))

    @property
    def workers(self) -> Sequence[WorkerProcess]:
        """All workers that were ever started, the killed one among them."""
        return tuple(self._workers)

    async def start_another(self) -> WorkerProcess:
        """Start one more worker."""
        number = len(self._workers) + 1
        log = self._folder / f"worker-{number}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mageflow.cli", "worker", _CLIENT),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                # Source files with doubtful escapes in strings make the parser warn: thousands of lines in the log.
                env=os.environ | {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"},
            )
        worker = WorkerProcess(number=number, process=process, log=log)
        self._workers.append(worker)
        return worker

    async def kill_first(self) -> WorkerProcess:
        """Kill the first worker with SIGKILL, so that it can finish nothing and tell nobody."""
        worker = self._workers[0]
        worker.process.kill()
        await worker.process.wait()
        killed = WorkerProcess(number=worker.number, process=worker.process, log=worker.log, killed=True)
        self._workers[0] = killed
        return killed

    def check(self) -> None:
        """Raise `WorkerEndedError` if a worker ended by itself."""
        for worker in self._workers:
            if worker.process.returncode is not None and not worker.killed:
                raise WorkerEndedError(worker.number, worker.process.returncode, worker.log)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
