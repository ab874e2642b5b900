"""What the engine keeps: workflows, their runs, workers."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Status(StrEnum):
    """Named as in Hatchet."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    EVICTED = "EVICTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


class UnsupportedError(Exception):
    """A workflow asks for what this engine does not do."""


def new_uuid() -> str:
    """Return a fresh id."""
    return str(uuid.uuid4())


def seconds_of(expression: str) -> float:
    """Return a span of time as Hatchet writes it: `90s`, `1m30s`."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", expression))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So many at a time of those with the same value of an expression; `of_run`: runs of the workflow, not tasks."""

    expression: str
    max_runs: int
    strategy: str
    of_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOf:
    """What a task takes of a limit by rate."""

    key: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task of a workflow; times in seconds."""

    id: str
    name: str
    action: str
    timeout: float
    schedule_timeout: float
    retries: int
    backoff_factor: float
    backoff_max: float
    durable: bool
    slots: dict[str, int]
    parents: tuple[str, ...]
    limits: tuple[Limit, ...]
    rates: tuple[RateOf, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSpec:
    """A version of a workflow."""

    id: str
    version: str
    name: str
    tasks: dict[str, TaskSpec]
    on_failure: TaskSpec | None
    priority: int
    event_keys: tuple[str, ...]
    limits: tuple[Limit, ...]
    crons: tuple[str, ...]
    cron_input: str


@dataclass(slots=True, kw_only=True)
class LogEntry:
    """What a durable task asked for, by its order; the answer stays for replays."""

    node: int
    kind: str
    key: bytes = b""
    satisfied: bool = False
    order: int = 0
    payload: bytes = b""
    error: str = ""
    run_id: str = ""


@dataclass(slots=True, eq=False, kw_only=True)
class TaskRun:
    """A run of a task; `retry_count` counts its attempts, whatever ended them.

    `unscheduled`: it found no worker in time, which the REST API shows as a failure and gRPC as a cancel.
    """

    id: str
    number: int
    spec: TaskSpec
    run: WorkflowRun
    status: Status = Status.QUEUED
    waits: bool = False
    retry_count: int = 0
    app_retries: int = 0
    internal_retries: int = 0
    invocation: int = 0
    worker: Worker | None = None
    due: float = 0.0
    queued_at: float = 0.0
    times_out_at: float = 0.0
    released: bool = False
    unscheduled: bool = False
    output: str | None = None
    error: str = ""
    log: list[LogEntry] = field(default_factory=list[LogEntry])
    position: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class WorkflowRun:
    """A run of a workflow, with a run of each of its tasks."""

    id: str
    spec: WorkflowSpec
    input: dict[str, Any]
    metadata: str
    priority: int
    parent: str
    child_index: int
    child_key: str
    triggers: dict[str, Any]
    event_key: str
    desired_worker: str
    tasks: dict[str, TaskRun] = field(default_factory=dict[str, TaskRun])
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: datetime | None = None

    @property
    def status(self) -> Status:
        """The status that Hatchet derives from the tasks."""
        found = {task.status for task in self.tasks.values() if task.spec is not self.spec.on_failure}
        order = (Status.FAILED, Status.CANCELLED, Status.COMPLETED)
        if not all(status.ended for status in found):
            begun = found - {Status.QUEUED}
            return Status.RUNNING if begun else Status.QUEUED
        return next((status for status in order if status in found), Status.COMPLETED)

    @property
    def done(self) -> bool:
        """Whether every task has ended."""
        return all(task.status.ended for task in self.tasks.values())


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """A registered worker; without a stream nothing is assigned to it. `given`: tasks that it was ever assigned."""

    id: str
    name: str
    actions: frozenset[str]
    slots: dict[str, int]
    heartbeat: float
    paused: bool = False
    stream: asyncio.Queue[Any] | None = None
    durable: asyncio.Queue[Any] | None = None
    tasks: set[TaskRun] = field(default_factory=set[TaskRun])
    given: int = 0

    def free(self, kind: str) -> int:
        """Return the free slots of a kind."""
        used = sum(task.spec.slots.get(kind, 0) for task in self.tasks if not task.released)
        return self.slots.get(kind, 0) - used
