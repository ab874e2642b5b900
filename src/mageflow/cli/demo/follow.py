"""Follows the flow to its end: shows its progress, and kills a worker half-way where that is asked for."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from mageflow import FlowHandle, Progress
from mageflow.cli.demo.flow import DemoFlow
from mageflow.cli.demo.notes import read_notes
from mageflow.cli.demo.payloads import Failure, Report
from mageflow.cli.demo.report_files import read_report
from mageflow.cli.demo.screen import Screen, Snapshot
from mageflow.cli.demo.workers import WorkerProcesses

_POLL_SECONDS = 0.2
# The lease of a killed worker lapses within ten seconds; much longer without any news means that something is wrong.
_STALL_SECONDS = 60.0
_ENDED = ("done", "failed", "canceled")


class DemoStalledError(Exception):
    """Raised when nothing happened for a minute; the message says what was awaited."""

    def __init__(self, awaited: str, logs: Path) -> None:
        super().__init__(f"nothing moved for {_STALL_SECONDS:.0f} s waiting for {awaited}; see the logs in {logs}/")


class Follower:
    """Watches one flow on behalf of the terminal.

    Args:
        flow: The flow, already started.
        workers: The processes that run it.
        screen: Where news goes, already entered.
        folder: Where the flow writes.
        run: The name of this run of the demo.
        crash: Whether to kill a worker half-way.
    """

    def __init__(
        self, *, flow: DemoFlow, workers: WorkerProcesses, screen: Screen, folder: Path, run: str, crash: bool
    ) -> None:
        self._flow = flow
        self._workers = workers
        self._screen = screen
        self._folder = folder
        self._run = run
        self._crash_to_come = crash

    async def follow(self, handle: FlowHandle[object]) -> None:
        """Show the flow until it has ended, and raise its error if it failed.

        Raises:
            FlowFailedError: The flow failed.
            WorkerEndedError: A worker ended by itself.
            DemoStalledError: Nothing happened for a minute.
        """
        shown: tuple[object, ...] = ()
        moved_at = time.monotonic()
        while True:
            status = await handle.status()
            progress = await self._flow.read.progress()
            steps = await self._steps()
            self._screen.show(Snapshot(progress=progress, steps=steps, workers=self._worker_states()))
            if status in _ENDED:
                break
            news = (progress.done, progress.failed, progress.active, steps)
            if news != shown:
                shown, moved_at = news, time.monotonic()
            elif time.monotonic() - moved_at > _STALL_SECONDS:
                raise DemoStalledError("the flow", self._folder)
            await self._crash_half_way(progress)
            self._workers.check()
            await asyncio.sleep(_POLL_SECONDS)
        await handle.result(_STALL_SECONDS)
        if self._crash_to_come:
            self._screen.say("No worker was killed: the flow ended before it was seen half-way. Take more files.")

    async def wait_for_report(self) -> tuple[Report, Sequence[Failure]]:
        """Return the report and the notes on failures, once the callbacks of the flow have written all of them.

        Raises:
            WorkerEndedError: A worker ended by itself.
            DemoStalledError: They did not come within a minute.
        """
        deadline = time.monotonic() + _STALL_SECONDS
        while time.monotonic() < deadline:
            report = read_report(self._folder)
            failures = read_notes(self._folder, self._run)
            if report and len(failures) == report.ranking.totals.failed:
                return report, failures
            self._workers.check()
            await asyncio.sleep(_POLL_SECONDS / 4)
        raise DemoStalledError("the callbacks that write the report and note the failures", self._folder)

    async def _crash_half_way(self, progress: Progress) -> None:
        ended = progress.done + progress.failed
        if not self._crash_to_come or 2 * ended < progress.total:
            return
        self._crash_to_come = False
        killed = await self._workers.kill_first()
        started = await self._workers.start_another()
        self._screen.say(
            f"worker {killed.number} (process {killed.process.pid}) killed with SIGKILL after {ended:,} of "
            f"{progress.total:,} files; worker {started.number} (process {started.process.pid}) starts, "
            "and what was lost in the middle runs again",
            style="bold red",
        )

    async def _steps(self) -> Sequence[tuple[str, str]]:
        steps = (("rank-files", self._flow.rank), ("render-report", self._flow.render))
        await asyncio.gather(*(signature.arefresh() for _, signature in steps))
        return tuple((name, signature.task_status.value) for name, signature in steps)

    def _worker_states(self) -> Sequence[tuple[str, str]]:
        return tuple(
            (
                f"worker {worker.number}",
                f"{'killed' if worker.killed else 'runs'}, process {worker.process.pid}",
            )
            for worker in self._workers.workers
        )
