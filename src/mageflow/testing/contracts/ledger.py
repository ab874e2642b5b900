"""What the tasks of the suite did, and gates that hold them: files of a folder that all processes of a test share."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from mageflow.testing.waiting import PAUSE

_RUNNER = logging.getLogger("mageflow.run")
_TURNED_AWAY = "%s does not run: %s"
_LONGEST_NOTE = 200
HERE = "this process"
"""The name of the test's own process among the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that a task did: which task, what, and in which worker."""

    task: str
    what: Any
    worker: str

    @override
    def __str__(self) -> str:
        return f"{self.task} {json.dumps(self.what)[:_LONGEST_NOTE]} in {self.worker}"


class Ledger:
    """Notes of all processes of a test in their order, and gates that are closed until the test opens them.

    Tasks may use it from any thread and process; `worker` is the name of this one.
    """

    def __init__(self, folder: Path, worker: str = HERE) -> None:
        self.folder = folder
        self.worker = worker
        self._path = folder / "notes"
        self._path.touch()

    def note(self, task: str, what: object) -> None:
        """Note what a task did; `what` is JSON."""
        line = json.dumps({"task": task, "what": what, "worker": self.worker})
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def all(self) -> list[Note]:
        """Return every note."""
        return [Note(**json.loads(line)) for line in self._path.read_bytes().splitlines()]

    def of(self, task: str) -> list[Any]:
        """Return what a task did, in order."""
        return [note.what for note in self.all() if note.task == task]

    def count(self, task: str, what: object) -> int:
        """Return how often a task did this."""
        return self.of(task).count(what)

    def counts(self, task: str) -> Counter[str]:
        """Return how often a task did what; for texts."""
        return Counter(self.of(task))

    @override
    def __str__(self) -> str:
        notes = self.all()
        left_out = f"... {len(notes) - 30} more, " if len(notes) > 30 else ""
        return "[" + left_out + ", ".join(map(str, notes[-30:])) + "]"

    def _gate(self, gate: str) -> Path:
        return self.folder / f"open-{gate}"

    def open(self, *gates: str) -> None:
        """Let tasks pass these gates, now and later."""
        for gate in gates:
            self._gate(gate).touch()

    def open_all(self) -> None:
        """Let tasks pass every gate: nothing waits any more."""
        self._gate("").touch()

    def is_open(self, gate: str) -> bool:
        """Whether a task may pass."""
        return self._gate(gate).exists() or self._gate("").exists()

    async def wait_at(self, gate: str) -> None:
        """Hold a coroutine until the gate is open."""
        while not self.is_open(gate):  # noqa: ASYNC110 - the one who opens it is another process
            await asyncio.sleep(PAUSE)

    def block_at(self, gate: str) -> None:
        """Hold a thread until the gate is open."""
        while not self.is_open(gate):
            time.sleep(PAUSE)


class _Watch(logging.Handler):
    """Notes the deliveries that a worker of this process turned away."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.INFO)
        self._ledger = ledger

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _TURNED_AWAY and isinstance(record.args, tuple):
            key, why = record.args
            self._ledger.note(TURNED_AWAY, [key, why])


TURNED_AWAY = "turned away"
"""Notes of this name are no task's: `[key, why]` of a delivery that the worker did not run."""


@contextmanager
def watched_runner(ledger: Ledger) -> Generator[None]:
    """Note what workers of this process turn away."""
    watch, level = _Watch(ledger), _RUNNER.level
    _RUNNER.addHandler(watch)
    _RUNNER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _RUNNER.setLevel(level)
        _RUNNER.removeHandler(watch)
