"""The parts of the demo that need no flow: finding, measuring, ranking, rendering, showing."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mageflow import Progress
from mageflow.cli.demo.direct import count_files
from mageflow.cli.demo.findings import findings
from mageflow.cli.demo.markdown import render_markdown
from mageflow.cli.demo.measure import measure_source
from mageflow.cli.demo.notes import add_note, read_notes
from mageflow.cli.demo.page import render_page
from mageflow.cli.demo.payloads import Failure, RenderedReport, Report
from mageflow.cli.demo.ranking import rank
from mageflow.cli.demo.report_files import prepare_folder, read_report, write_report_files
from mageflow.cli.demo.screen import LiveScreen, PlainScreen, Snapshot
from mageflow.cli.demo.sources import find_sources

_SOURCE = b"""\
import os.path, json
from . import neighbour
from xml.dom import minidom

class Outer:
    def method(self):
        try:
            import json
        except ImportError:
            async def inner():
                pass
        match self:
            case 1:
                def in_case(): pass

if True:
    pass
else:
    def in_else(): return lambda: 1
"""

_HOSTILE = "<script>alert(1)</script>|`[x](http://y)`\n# h"


def _report(*, name: str = "plain.py", failed: int = 1) -> Report:
    facts = [measure_source(b"def long():\n  pass\n  pass\n", name), measure_source(b"import sys\n", "other/file.py")]
    return Report(
        run="run",
        python="3.11",
        ranking=rank(facts, requested=len(facts) + failed),
        failures=[Failure(run="run", label=name, type="SyntaxError", message=name)] * failed,
    )


def test_every_statement_is_measured() -> None:
    """Functions, classes and imports are found in every kind of block, under their dotted names."""
    facts = measure_source(_SOURCE, "outer.py")
    assert (facts.lines, facts.functions, facts.classes) == (19, 4, 1)
    assert facts.imports == ["json", "os", "xml"]
    assert facts.longest is not None
    assert (facts.longest.name, facts.longest.line, facts.longest.lines) == ("Outer.method", 6, 9)


def test_source_that_does_not_parse_is_an_error_with_its_label() -> None:
    """A file that is not Python raises the parser's own error, which names the file."""
    with pytest.raises(SyntaxError, match=r"broken\.py"):
        measure_source(b"def (", "broken.py")


def test_direct_count_agrees_with_the_measurement(tmp_path: Path) -> None:
    """The count that checks the report finds the same as the tasks, and counts what does not parse."""
    for name, source in (("good.py", _SOURCE), ("bad.py", b"print 'x'"), ("null.py", b"\0")):
        (tmp_path / name).write_bytes(source)
    totals = count_files([str(tmp_path / name) for name in ("good.py", "bad.py", "null.py", "missing.py")])
    assert totals == rank([measure_source(_SOURCE, "good.py")], requested=4).totals


def test_sources_are_the_same_each_time() -> None:
    """The same limit chooses the same files, each once and each there."""
    sources = find_sources(40)
    assert sources == find_sources(40)
    assert len({source.label for source in sources}) == len(sources) == 40
    assert all(Path(source.path).is_file() for source in sources)


def test_nothing_out_of_files_acts_as_markup() -> None:
    """Names and messages out of files are escaped on the page and inert in the Markdown."""
    report = _report(name=_HOSTILE)
    assert "<script" not in render_page(report)
    assert "&lt;script&gt;" in render_page(report)
    markdown = render_markdown(report)
    for line in markdown.splitlines():
        assert not line.startswith("# h")
        if line.startswith("|") and "script" in line:
            assert "|`[x]" not in line.replace("\\|", "")
    assert all("`<script>" in line or "\\<script\\>" in line for line in markdown.splitlines() if "script" in line)


def test_report_of_nothing_says_so() -> None:
    """A report over no file at all still renders and says what is missing."""
    report = Report(run="run", python="3.11", ranking=rank([], requested=0), failures=[])
    assert len(findings(report)) == 5
    assert "no error callback had anything to do" in render_page(report)
    assert "None." in render_markdown(report)


def test_notes_are_read_once_each(tmp_path: Path) -> None:
    """A note that was written twice, torn or by another run is left out."""
    for run, label in (("now", "b.py"), ("now", "a.py"), ("before", "c.py"), ("now", "b.py")):
        add_note(tmp_path, Failure(run=run, label=label, type="SyntaxError", message="bad"))
    with (tmp_path / "failures.jsonl").open("ab") as notes:
        notes.write(b'{"run": "now", "la')
    assert [failure.label for failure in read_notes(tmp_path, "now")] == ["a.py", "b.py"]


def test_report_of_an_earlier_run_is_not_written(tmp_path: Path) -> None:
    """The folder belongs to the run that prepared it last; a report of another run leaves it alone."""
    report = _report()
    rendered = RenderedReport(page="page", markdown="markdown", report=report)
    prepare_folder(tmp_path, "later")
    write_report_files(tmp_path, rendered)
    assert read_report(tmp_path) is None
    prepare_folder(tmp_path, "run")
    write_report_files(tmp_path, rendered)
    assert read_report(tmp_path) == report
    assert (tmp_path / "report.html").read_text() == "page"


def _snapshot(*, done: int) -> Snapshot:
    return Snapshot(
        progress=Progress(
            total=2_000,
            pending=1_990 - done,
            active=4,
            done=done,
            failed=6,
            canceled=0,
            per_second=250.0,
            seconds_left=7.0,
        ),
        steps=(("rank-files", "pending"),),
        workers=(("worker 1", "runs, process 12"),),
    )


def test_terminal_shows_counts_rate_and_time_left() -> None:
    """The live view shows how much is done and failed, how fast it goes and how long it will take."""
    output = io.StringIO()
    with LiveScreen(Console(file=output, force_terminal=True, width=100)) as screen:
        screen.show(_snapshot(done=1_000))
        screen.say("worker killed")
    for expected in ("1,006/2,000", "250/s", "7 s left", "6 failed", "rank-files", "worker 1", "worker killed"):
        assert expected in output.getvalue()


def test_pipe_gets_plain_lines() -> None:
    """Where the output is no terminal, news come as lines, and not more often than every other second."""
    output = io.StringIO()
    with PlainScreen(Console(file=output, width=40)) as screen:
        for done in (1, 2, 3):
            screen.show(_snapshot(done=done))
    assert output.getvalue() == "  read 7 of 2,000 files, 6 failed, 250/s, 7 s left, rank-files pending\n"
