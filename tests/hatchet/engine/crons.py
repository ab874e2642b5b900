"""Crons: what starts runs at each moment that an expression names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.hatchet.engine.values import UnsupportedError, WorkflowSpec, new_uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A cron of a workflow; `of_version`: declared with it, and gone with its next version."""

    id: str
    workflow: str
    expression: str
    name: str
    input_json: str
    metadata: dict[str, Any]
    priority: int | None
    of_version: bool


class Crons:
    """The crons of a tenant; it is looked at often, each second counts once."""

    def __init__(self) -> None:
        self.all: dict[str, Cron] = {}
        self._second = 0

    def add(self, workflow: str, expression: str, name: str = "", **about: Any) -> Cron:
        """Add a cron; `about` is the rest of its fields."""
        parts = expression.split()
        if len(parts) not in (5, 6):
            raise UnsupportedError(f"the cron {expression!r}")
        cron = Cron(id=new_uuid(), workflow=workflow, expression=expression, name=name, **about)
        self.all[cron.id] = cron
        return cron

    def declare(self, spec: WorkflowSpec) -> None:
        """Take the crons of a new version in place of those of the one before."""
        old = [cron.id for cron in self.all.values() if cron.of_version and cron.workflow == spec.name]
        for identifier in old:
            del self.all[identifier]
        for expression in spec.crons:
            self.add(
                spec.name, expression, input_json=spec.cron_input, metadata={}, priority=spec.priority, of_version=True
            )

    def due(self) -> Iterable[tuple[Cron, dict[str, Any]]]:
        """Return the crons that this second names, each with the metadata of its run; nothing if it was asked for."""
        now = datetime.now(UTC).replace(microsecond=0)
        if int(now.timestamp()) == self._second:
            return []
        self._second = int(now.timestamp())
        return [(cron, _metadata(cron, now)) for cron in self.all.values() if _names(cron.expression, now)]


def _metadata(cron: Cron, now: datetime) -> dict[str, Any]:
    about = {"hatchet__cron_expression": cron.expression, "hatchet__cron_scheduled_at": now.isoformat()}
    return {**cron.metadata, **about, "hatchet__cron_name": cron.name}


def _names(expression: str, moment: datetime) -> bool:
    fields = expression.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    values = (moment.second, moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7)
    return all(any(_fits(part, value) for part in each.split(",")) for each, value in zip(fields, values, strict=True))


def _fits(part: str, value: int) -> bool:
    if part.startswith("*"):
        return value % int(part.removeprefix("*").removeprefix("/") or 1) == 0
    first, _, last = part.partition("-")
    return int(first) <= value <= int(last or first)
