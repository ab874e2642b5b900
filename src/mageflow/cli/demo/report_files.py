"""The files of a report: written by the flow's last callback, awaited and read by the command."""

import os
from pathlib import Path

from mageflow.cli.demo.notes import NOTES_NAME
from mageflow.cli.demo.payloads import RenderedReport, Report

PAGE_NAME = "report.html"
MARKDOWN_NAME = "report.md"
_DATA_NAME = "report.json"
_RUN_NAME = "run.txt"


def prepare_folder(folder: Path, run: str) -> None:
    """Make the folder ready for a run of the demo: name the run there, take away what an earlier one left."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RUN_NAME).write_text(run)
    written = (folder / name for name in (PAGE_NAME, MARKDOWN_NAME, _DATA_NAME, NOTES_NAME))
    for path in (*written, *folder.glob("worker-*.log")):
        path.unlink(missing_ok=True)


def write_report_files(folder: Path, rendered: RenderedReport) -> None:
    """Write a report, each file in one step and the data last: once they are there, all is there.

    The flow of a demo that was interrupted goes on as soon as workers live again, thus during the next demo; its
    report is left out, for the folder belongs to that next run.
    """
    if (folder / _RUN_NAME).read_text() != rendered.report.run:
        return
    _replace(folder / PAGE_NAME, rendered.page)
    _replace(folder / MARKDOWN_NAME, rendered.markdown)
    _replace(folder / _DATA_NAME, rendered.report.model_dump_json(indent=2))


def read_report(folder: Path) -> Report | None:
    """Return the report of the current run, or None while it is not there."""
    path = folder / _DATA_NAME
    return Report.model_validate_json(path.read_bytes()) if path.exists() else None


def _replace(path: Path, text: str) -> None:
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(text, encoding="utf-8")
    written.replace(path)
