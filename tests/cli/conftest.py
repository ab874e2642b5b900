"""The `mageflow` command as users run it: a process of its own in an empty directory."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

_PATIENCE = 200
"""Seconds: a demo takes a few, and ten times as many on a machine that does ten other things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """Starts `mageflow` in `folder`, each time as the leader of a process group of its own."""

    folder: Path
    started: list[subprocess.Popen[str]]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the command and return its process; standard error goes to standard output."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mageflow.cli", *arguments],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "REDIS_URL"}
            | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the command to its end and return its exit code and all that it printed."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=_PATIENCE)
        return process.returncode, output


@pytest.fixture
def command_line(tmp_path: Path) -> Generator[CommandLine]:
    """The command in a temporary directory; whatever is left of it is killed at the end of the test."""
    command_line = CommandLine(folder=tmp_path, started=[])
    yield command_line
    for process in command_line.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
