"""What the terminal shows while the flow runs: a live view, or plain lines where the output is no terminal."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from mageflow import Progress

_PLAIN_SECONDS = 2.0
_STATUS_STYLES = {"active": "cyan", "done": "green", "failed": "bold red", "killed": "bold red", "runs": "green"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state of the flow at one moment.

    Attributes:
        progress: The counts of the swarm.
        steps: The later steps, each with its status.
        workers: The worker processes, each with its state.
    """

    progress: Progress
    steps: Sequence[tuple[str, str]]
    workers: Sequence[tuple[str, str]]


class Screen(AbstractContextManager["Screen"], ABC):
    """Where the demo says what happens; `show` may be called as often as there is news, inside the context only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str = "", style: str = "") -> None:
        """Print a line that stays; nothing in it is taken for markup, nothing is cut."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    @override
    def __enter__(self) -> Self:
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show the state of the flow."""


class LiveScreen(Screen):
    """A view that is drawn again in place, for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=8)

    @override
    def __enter__(self) -> Self:
        self._live.start()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @override
    def show(self, snapshot: Snapshot) -> None:
        progress = snapshot.progress
        read, states = _grid(), _grid()
        ended = progress.done + progress.failed
        read.add_row(
            Text("read-files", style="bold"),
            ProgressBar(total=progress.total, completed=ended, width=max(10, min(40, self.console.width - 50))),
            Text(f"{ended:,}/{progress.total:,}"),
            Text(_pace(progress), style="cyan"),
        )
        for name, status in snapshot.steps:
            states.add_row(Text(name, style="bold"), _status(status))
        for name, status in snapshot.workers:
            states.add_row(Text(name), _status(status))
        self._live.update(Group(read, _counts(progress), states))


class PlainScreen(Screen):
    """A line every other second, for a pipe or a log."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._shown: Snapshot | None = None
        self._shown_at = 0.0

    @override
    def show(self, snapshot: Snapshot) -> None:
        moved = self._shown is None or self._shown.steps != snapshot.steps
        late = time.monotonic() - self._shown_at >= _PLAIN_SECONDS and snapshot != self._shown
        if moved or late:
            self._shown, self._shown_at = snapshot, time.monotonic()
            progress = snapshot.progress
            parts = [
                f"read {progress.done + progress.failed:,} of {progress.total:,} files",
                f"{progress.failed:,} failed",
                _pace(progress),
                *(f"{name} {status}" for name, status in snapshot.steps),
            ]
            self.say("  " + ", ".join(part for part in parts if part))


def open_screen() -> Screen:
    """Return the screen that fits standard output."""
    console = Console(highlight=False)
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=14)
    return grid


def _pace(progress: Progress) -> str:
    """Say how fast files are read and how long the rest will take, as far as that is known."""
    parts: list[str] = []
    if progress.per_second:
        parts.append(f"{progress.per_second:,.0f}/s")
    if progress.seconds_left:
        parts.append(f"{progress.seconds_left:,.0f} s left")
    return ", ".join(parts)


def _counts(progress: Progress) -> RenderableType:
    text = Text(f"  {progress.done:,} done", style="green")
    text.append(f", {progress.active:,} running, {progress.pending:,} waiting", style="dim")
    text.append(f", {progress.failed:,} failed", style="red" if progress.failed else "dim")
    return text


def _status(status: str) -> Text:
    word = status.split(maxsplit=1)[0] if status else ""
    return Text(status, style=_STATUS_STYLES.get(word.rstrip(","), "dim"))
