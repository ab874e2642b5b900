"""Limits by number and by rate: what may go to a worker now, and what is canceled to make room."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.hatchet.engine.values import Limit, RateOf, TaskRun, UnsupportedError

STRATEGIES = ("GROUP_ROUND_ROBIN", "CANCEL_IN_PROGRESS", "CANCEL_NEWEST")
_LITERAL = re.compile(r"'[^']*'")
_PATH = re.compile(r"input(\.\w+)+")


def check_expression(expression: str) -> str:
    """Return an expression that this engine can read: a text in quotes, or a field of the input."""
    if not (_LITERAL.fullmatch(expression) or _PATH.fullmatch(expression)):
        raise UnsupportedError(f"the expression {expression!r}")
    return expression


def _value(expression: str, given: dict[str, Any]) -> str:
    value: Any = given
    for name in [] if expression[0] == "'" else expression.split(".")[1:]:
        value = value[name]
    return expression if value is given else str(value)


class Places:
    """Who holds the places of each limit by number: tasks, or runs where the limit is of their workflow.

    A task that was let through keeps its place until it ends or is queued again, also while no worker is free.
    """

    def __init__(self) -> None:
        self._holders: dict[tuple[str, ...], list[TaskRun]] = {}

    def enter(self, task: TaskRun) -> tuple[bool, list[TaskRun]]:
        """Return whether a task may go on, and which tasks are canceled."""
        groups = [(limit, self._holders.setdefault(key, [])) for limit, key in _groups(task)]
        if all(task in holders for _, holders in groups):
            return True, []
        canceled: list[TaskRun] = []
        for limit, holders in groups:
            others = [holder for holder in holders if holder.run is not task.run or not limit.of_run]
            excess = len({holder.run.id if limit.of_run else holder.id for holder in others}) - limit.max_runs + 1
            if excess <= 0:
                continue
            if limit.strategy == "CANCEL_NEWEST":
                return False, [task]
            if limit.strategy != "CANCEL_IN_PROGRESS":
                return False, []
            canceled += others[:excess]
        for _, holders in groups:
            holders.append(task)
        return True, canceled

    def leave(self, task: TaskRun) -> None:
        """Give the places of a task back."""
        for _, key in _groups(task):
            holders = self._holders.get(key, [])
            if task in holders:
                holders.remove(task)


def _groups(task: TaskRun) -> Iterator[tuple[Limit, tuple[str, ...]]]:
    for limit in (*task.run.spec.limits, *task.spec.limits):
        of = "" if limit.of_run else task.spec.name
        yield limit, (task.run.spec.name, of, limit.expression, _value(limit.expression, task.run.input))


@dataclass(slots=True)
class _Rate:
    limit: int
    window: float
    left: int
    filled: float


class Rates:
    """Limits by rate: each is full again when its window is over."""

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}

    def put(self, key: str, limit: int, window: float, now: float) -> None:
        """Set a limit."""
        self._rates[key] = _Rate(limit, window, limit, now)

    def take(self, wanted: tuple[RateOf, ...], now: float) -> bool:
        """Whether there is enough of all of them, which is then taken; of one that nobody set there never is."""
        for rate in self._rates.values():
            if now - rate.filled >= rate.window:
                rate.left, rate.filled = rate.limit, now
        if any(each.key not in self._rates or self._rates[each.key].left < each.units for each in wanted):
            return False
        for each in wanted:
            self._rates[each.key].left -= each.units
        return True
