"""The tasks of the demo: plain functions, made into tasks by `flow.create_client`."""

import platform
from pathlib import Path

from mageflow.cli.demo import notes
from mageflow.cli.demo.markdown import render_markdown
from mageflow.cli.demo.measure import measure_file
from mageflow.cli.demo.page import render_page
from mageflow.cli.demo.payloads import (
    Failure,
    FileFacts,
    NoteFailure,
    ParseFile,
    RankFiles,
    Ranking,
    RenderedReport,
    RenderReport,
    Report,
    WriteReport,
)
from mageflow.cli.demo.ranking import rank
from mageflow.cli.demo.report_files import write_report_files


async def parse_file(message: ParseFile) -> FileFacts:
    """Measure one file; a file that does not parse fails the task.

    It runs on the event loop, not in a thread: parsing holds the interpreter's lock, so that threads would gain
    nothing, and CPython 3.11 counts the depth of its parser once for all threads, so that two which parse at the same
    time (writing a traceback parses too) can make each other fail with `SystemError`.
    """
    return measure_file(message.path, message.label)


def note_failure(message: NoteFailure) -> None:
    """Note a file that does not parse; the error callback of every `parse_file`."""
    notes.add_note(
        Path(message.folder),
        Failure(run=message.run, label=message.label, type=message.error.type, message=message.error.message),
    )


def rank_files(message: RankFiles) -> Ranking:
    """Rank the facts of all files that parsed; the chain's second step."""
    return rank(message.facts, requested=message.requested)


def render_report(message: RenderReport) -> RenderedReport:
    """Make the report out of the ranking and the notes on failures; the chain's last step."""
    report = Report(
        run=message.run,
        python=platform.python_version(),
        ranking=message.ranking,
        failures=notes.read_notes(Path(message.folder), message.run),
    )
    return RenderedReport(page=render_page(report), markdown=render_markdown(report), report=report)


def write_report(message: WriteReport) -> None:
    """Write the report to its folder; the success callback of the chain."""
    write_report_files(Path(message.folder), message.rendered)
