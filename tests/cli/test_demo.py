"""`mageflow demo` from start to end, with real workers and a real server."""

import ast
import gc
import re
import signal
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mageflow.cli.demo.payloads import Report
from mageflow.cli.demo.sources import SourceFile, find_sources
from tests.cli.conftest import CommandLine

_FILES = 150
_FILES_TO_CRASH_IN = 900
"""So many that the second half takes a second: the demo looks five times in one."""


@pytest.mark.timeout(240)
def test_demo_reports_what_the_files_hold(command_line: CommandLine) -> None:
    """The demo ends with 0, and its three files say what a plain count over the same files finds."""
    code, output = command_line.run("demo", "--files", str(_FILES))
    assert code == 0, output
    assert "a count without any flow finds the same" in output
    assert "Report: " in output
    assert len(re.findall(r"^  [1-5]\. ", output, re.MULTILINE)) == 5
    _assert_report_is_right(command_line.folder / "mageflow-demo", _FILES)


@pytest.mark.timeout(240)
def test_demo_survives_a_killed_worker(command_line: CommandLine) -> None:
    """With a worker killed half-way the demo starts another one and reports the same totals."""
    code, output = command_line.run("demo", "--files", str(_FILES_TO_CRASH_IN), "--crash")
    assert code == 0, output
    assert "worker 1 (process" in output
    assert "killed with SIGKILL" in output
    assert "a count without any flow finds the same" in output
    folder = command_line.folder / "mageflow-demo"
    assert len(list(folder.glob("worker-*.log"))) == 3
    _assert_report_is_right(folder, _FILES_TO_CRASH_IN)


def test_demo_without_redis_says_so(command_line: CommandLine) -> None:
    """With a Redis that cannot be reached the demo exits with 1 and names the error, without a traceback."""
    code, output = command_line.run("demo", "--files", "10", REDIS_URL="redis://127.0.0.1:1/0")
    assert code == 1
    assert "The demo failed: StoreUnavailableError" in output
    assert "Traceback" not in output


def test_demo_in_a_read_only_place_says_so(command_line: CommandLine) -> None:
    """Where its folder cannot be made the demo exits with 1 and names it, without a traceback."""
    (command_line.folder / "mageflow-demo").write_text("in the way")
    code, output = command_line.run("demo", "--files", "10")
    assert code == 1
    assert "mageflow-demo" in output
    assert "Traceback" not in output


@pytest.mark.timeout(120)
def test_interrupted_demo_stops_its_workers(command_line: CommandLine) -> None:
    """Ctrl-C ends the demo with 130 and leaves no worker behind."""
    process = command_line.start("demo", "--files", "2000")
    assert process.stdout is not None
    line = next((line for line in process.stdout if " of " in line and " files, " in line), None)
    assert line is not None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=50)  # the workers would hold no end of the pipe, but their ends are logged
    assert process.returncode == 130
    assert "Interrupted." in output
    for log in (command_line.folder / "mageflow-demo").glob("worker-*.log"):
        pid = re.search(r"process (\d+)", log.read_text())
        assert pid is None or not Path("/proc", pid.group(1)).exists()


@pytest.mark.parametrize("arguments", [("--files", "9"), ("--files", "20001"), ("--workers", "0"), ("--files", "x")])
def test_demo_options_out_of_range_are_refused(command_line: CommandLine, arguments: tuple[str, str]) -> None:
    """An option out of its range exits with 2 and names the option."""
    code, output = command_line.run("demo", *arguments)
    assert code == 2
    assert arguments[0] in output


def _assert_report_is_right(folder: Path, count: int) -> None:
    sources = find_sources(count)
    report = Report.model_validate_json((folder / "report.json").read_bytes())
    parsed, broken = _parse(sources)
    totals = report.ranking.totals
    assert totals.parsed == len(parsed)
    assert totals.failed == len(broken)
    nodes = [node for tree in parsed for node in ast.walk(tree)]
    assert totals.functions == sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    assert totals.classes == sum(isinstance(node, ast.ClassDef) for node in nodes)
    assert sum(share.files for share in report.ranking.processes) == len(parsed)
    noted = {failure.label for failure in report.failures}
    assert noted <= set(broken)
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert f"{totals.parsed:,} files hold {totals.lines:,} lines" in text
    page = (folder / "report.html").read_text()
    assert "Content-Security-Policy" in page
    assert not re.search(r"""(?:src|href|action)=|url\(|@import|<script""", page)
    for label in noted:
        assert label in page


def _parse(sources: Sequence[SourceFile]) -> tuple[list[ast.Module], list[str]]:
    parsed: list[ast.Module] = []
    broken: list[str] = []
    with warnings.catch_warnings(), _no_collection():
        warnings.simplefilter("ignore")
        for source in sources:
            try:
                parsed.append(ast.parse(Path(source.path).read_bytes()))
            except (SyntaxError, ValueError):
                broken.append(source.label)
    return parsed, broken


@contextmanager
def _no_collection() -> Generator[None]:
    """Keep the collector away: CPython 3.11 fails where a callback of it (Hypothesis has one) runs in `ast.parse`."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
