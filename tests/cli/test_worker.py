"""`mageflow worker`: what it refuses, and how it stops."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine

_MODULE = """
from mageflow import Mageflow

client = Mageflow()
number = 7
"""

_BLOCKING_MODULE = """
import time
from contextlib import asynccontextmanager

from mageflow import Mageflow


class Unending(Mageflow):
    @asynccontextmanager
    async def worker(self, *, slots):
        yield
        time.sleep(60)


client = Unending()
"""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("flows", "'flows' is not of the form module:client"),
        ("flows:", "'flows:' is not of the form module:client"),
        (":client", "':client' is not of the form module:client"),
        (".flows:client", "'.flows:client' is not of the form module:client"),
        ("flow:client", "there is no module 'flow'"),
        ("flows.deeper:client", "there is no module 'flows.deeper'"),
        ("flows:clint", "'flows' has no 'clint'; the clients there: client"),
        ("flows:number", "'flows:number' is a int, not a Mageflow client; the clients there: client"),
        ("empty:client", "'empty' has no 'client'; no Mageflow client is there"),
    ],
)
def test_argument_that_names_no_client_is_refused(command_line: CommandLine, target: str, expected: str) -> None:
    """An argument that names no client exits with 2 and says what is wrong, without a traceback."""
    (command_line.folder / "flows.py").write_text(_MODULE)
    (command_line.folder / "empty.py").write_text("")
    code, output = command_line.run("worker", target)
    assert code == 2
    assert expected in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("value = 1\nvalue.missing\n", "AttributeError: 'int' object has no attribute 'missing'"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("def broken(:\n", "SyntaxError"),
    ],
)
def test_module_that_cannot_be_imported_is_reported_with_its_place(
    command_line: CommandLine, source: str, expected: str
) -> None:
    """A module whose import fails exits with 1 and the place of its error, without a traceback."""
    (command_line.folder / "flows.py").write_text(source)
    code, output = command_line.run("worker", "flows:client")
    assert code == 1
    assert f"importing 'flows' failed at {command_line.folder / 'flows.py'}:" in output
    assert expected in output
    assert "Traceback" not in output


def test_redis_that_is_away_ends_the_worker(command_line: CommandLine) -> None:
    """A worker whose Redis cannot be reached exits with 1 and a sentence that names the error."""
    (command_line.folder / "flows.py").write_text(_MODULE)
    code, output = command_line.run("worker", "flows:client", REDIS_URL="redis://127.0.0.1:1/0")
    assert code == 1
    assert "StoreUnavailableError" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_worker_cleanly(command_line: CommandLine, number: signal.Signals) -> None:
    """A worker runs until SIGTERM or SIGINT and then exits with 0."""
    (command_line.folder / "flows.py").write_text(_MODULE)
    process = command_line.start("worker", "flows:client")
    _wait_for_line(process, "worker of flows:client runs")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stops" in output
    assert "Traceback" not in output


def test_second_signal_ends_the_worker_at_once(command_line: CommandLine, tmp_path: Path) -> None:
    """A worker that is busy stopping, even with its loop blocked, exits at once at a second signal."""
    (tmp_path / "flows.py").write_text(_BLOCKING_MODULE)
    process = command_line.start("worker", "flows:client")
    _wait_for_line(process, "runs")
    process.send_signal(signal.SIGTERM)
    _wait_for_line(process, "stops")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def _wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Read the process's output up to a line that holds `part`; the test's own time limit bounds the wait."""
    assert process.stdout is not None
    for line in process.stdout:
        if part in line:
            return
    pytest.fail(f"the process ended with {process.wait()} before it printed {part!r}")
