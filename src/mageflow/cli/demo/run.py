"""`mageflow demo`: start workers, run the flow, follow it, and check what it reports."""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from mageflow.cli.demo.direct import count_directly
from mageflow.cli.demo.findings import findings
from mageflow.cli.demo.flow import create_client, create_flow
from mageflow.cli.demo.follow import DemoStalledError, Follower
from mageflow.cli.demo.options import DemoOptions
from mageflow.cli.demo.payloads import Report, Totals
from mageflow.cli.demo.report_files import MARKDOWN_NAME, PAGE_NAME, prepare_folder
from mageflow.cli.demo.screen import Screen, open_screen
from mageflow.cli.demo.sources import SourceFile, find_sources
from mageflow.cli.demo.workers import WorkerEndedError, WorkerProcesses
from mageflow.errors import MageflowError

# A worker parses one file at a time; as many more are on their way to it or back that its core never waits.
_FILES_PER_WORKER = 8
_INTERRUPTED = 130


def run_demo(options: DemoOptions) -> int:
    """Run the demo and return its exit code: 0 if the report is right, 1 if not or if something failed."""
    began = time.monotonic()
    screen = open_screen()
    sources = find_sources(options.files)
    screen.say(f"MageFlow demo: a flow over {len(sources):,} source files of this Python", style="bold")
    screen.say("  chain: read-files (a swarm, one task per file) -> rank-files -> render-report, then write-report")
    try:
        return asyncio.run(_run(options, sources, screen, began))
    except (MageflowError, WorkerEndedError, DemoStalledError, OSError) as error:
        screen.say(f"The demo failed: {type(error).__name__}: {error}", style="bold red")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.say("Interrupted. The flow stays in ./.mageflow/ and goes on with the next demo in this directory.")
        return _INTERRUPTED


async def _run(options: DemoOptions, sources: Sequence[SourceFile], screen: Screen, began: float) -> int:
    _cancel_on_sigterm()
    report = await _run_flow(options, sources, screen)
    flow_seconds = time.monotonic() - began
    _show_findings(screen, report, options.folder)
    direct = await count_directly([source.path for source in sources], options.workers)
    right = direct == report.ranking.totals
    _show_check(screen, report.ranking.totals, direct)
    total_seconds = time.monotonic() - began
    screen.say(f"Time: {flow_seconds:.1f} s for the flow, {total_seconds - flow_seconds:.1f} s for the check.")
    return 0 if right else 1


async def _run_flow(options: DemoOptions, sources: Sequence[SourceFile], screen: Screen) -> Report:
    """Run the flow on workers of its own and return the report that it wrote."""
    run, folder = uuid4().hex, options.folder.resolve()
    prepare_folder(folder, run)
    client = create_client()
    async with WorkerProcesses(options.workers, folder) as workers:
        await client.startup()
        try:
            created_at = time.monotonic()
            flow = await create_flow(
                client, sources, folder=folder, run=run, concurrency=_FILES_PER_WORKER * options.workers
            )
            screen.say(f"  flow {flow.chain.key} created in {time.monotonic() - created_at:.1f} s")
            handle = await flow.chain.aio_run_no_wait()
            with screen:
                follower = Follower(
                    flow=flow, workers=workers, screen=screen, folder=folder, run=run, crash=options.crash
                )
                await follower.follow(handle)
                report, _ = await follower.wait_for_report()
            return report
        finally:
            await client.shutdown()


def _show_findings(screen: Screen, report: Report, folder: Path) -> None:
    screen.say()
    for name in (PAGE_NAME, MARKDOWN_NAME):
        screen.say(f"Report: {folder / name}", style="bold green")
    for number, finding in enumerate(findings(report), start=1):
        screen.say(f"  {number}. {finding}")


def _show_check(screen: Screen, reported: Totals, direct: Totals) -> None:
    if reported == direct:
        counts = ", ".join(f"{count:,} {name}" for name, count in reported)
        screen.say(f"Check: a count without any flow finds the same: {counts}.", style="bold green")
        return
    screen.say("Check: the report is WRONG; a count without any flow differs:", style="bold red")
    for (name, count), (_, expected) in zip(reported, direct, strict=True):
        screen.say(f"  {name}: {count:,} in the report, {expected:,} counted directly", style="red")


def _cancel_on_sigterm() -> None:
    """Let SIGTERM end the demo like Ctrl-C does: with its workers stopped."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
