"""The engine itself: what is queued, what runs where, what follows from each event."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.hatchet.engine.crons import Crons
from tests.hatchet.engine.limits import Places, Rates
from tests.hatchet.engine.values import (
    Status,
    TaskRun,
    TaskSpec,
    Worker,
    WorkflowRun,
    WorkflowSpec,
    new_uuid,
)

INTERNAL_RETRIES = 10
_TICK = 0.05
_CANCELED_IN = 0.8
"""Seconds that a cancel stands in the queue of a busy engine: longer than a worker takes to learn of ours."""
_FRESH = 5.0
"""Seconds since its last heartbeat in which a worker that listens is given work."""


def _as_floats(text: str) -> Any:
    """Read JSON as Hatchet does: every number is a float of 64 bits, and written without a point where it can."""

    def number(digits: str) -> int | float:
        value = float(digits)
        # The shortest digits that give this float, then zeros.
        return int(Decimal(repr(value))) if value.is_integer() and abs(value) < 1e21 else value

    return json.loads(text, parse_int=number, parse_float=number)


class Engine:
    """One tenant's engine, for one event loop.

    Args:
        reassign_after: seconds without a heartbeat after which a worker's runs go to another one (Hatchet: 30).
    """

    def __init__(self, reassign_after: float = 30.0) -> None:
        self._reassign_after = reassign_after
        self.workflows: dict[str, WorkflowSpec] = {}
        self.runs: dict[str, WorkflowRun] = {}
        self.tasks: dict[str, TaskRun] = {}
        self.workers: dict[str, Worker] = {}
        self.crons = Crons()
        self.rates = Rates()
        self._places = Places()
        self.on_finished: set[Callable[[WorkflowRun], None]] = set()
        self._children: dict[tuple[str, str], WorkflowRun] = {}
        self._queue: list[TaskRun] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def work(self) -> None:
        """Assign and look at the clock until canceled."""
        while True:
            self._look_at_the_clock()
            self._assign()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _TICK)
            except TimeoutError:
                continue

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in some seconds."""
        self._timers.append((self._loop.time() + seconds, action))

    # ------------------------------------------------------------------------------------------------------- triggers

    def trigger(self, name: str, *, input_json: str = "", metadata: str = "", **options: Any) -> str:
        """Start a run; of a name that nobody registered: the id of a run that never is."""
        spec = self.workflows.get(name)
        if spec is None:
            return new_uuid()
        parent, index = options.get("parent", ""), options.get("child_index", 0)
        child = (parent, options.get("child_key") or str(index))
        if parent and child in self._children:
            return self._children[child].id
        run = WorkflowRun(
            id=new_uuid(),
            spec=spec,
            input=_as_floats(input_json) if input_json else {},
            metadata=self._inherited(parent, metadata) if parent else metadata,
            priority=options.get("priority") or spec.priority,
            parent=parent,
            child_index=index,
            child_key=options.get("child_key", ""),
            triggers=options.get("triggers", {}),
            event_key=options.get("event_key", ""),
            desired_worker=options.get("desired_worker", ""),
        )
        self.runs[run.id] = run
        if parent:
            self._children[child] = run
        for task in spec.tasks.values():
            self._add(run, task)
        return run.id

    def _inherited(self, parent: str, metadata: str) -> str:
        """Return the metadata of a child: the parent's, its own, its parent."""
        task = self.tasks[parent]
        above: dict[str, Any] = json.loads(task.run.metadata) if task.run.metadata else {}
        inherited = {name: value for name, value in above.items() if not name.startswith("hatchet__")}
        place = {"hatchet__parent_workflow_run_id": task.run.id, "hatchet__parent_step_run_id": task.id}
        return json.dumps({**inherited, **(json.loads(metadata) if metadata else {}), **place})

    def _add(self, run: WorkflowRun, spec: TaskSpec) -> None:
        single = len(run.spec.tasks) == 1 and spec is not run.spec.on_failure
        identifier = run.id if single else new_uuid()
        task = TaskRun(id=identifier, number=len(self.tasks) + 1, spec=spec, run=run, waits=bool(spec.parents))
        run.tasks[spec.name] = self.tasks[task.id] = task
        if not task.waits:
            self._enqueue(task)

    def push_event(self, key: str, payload: dict[str, Any], metadata: str) -> None:
        """Start the workflows that listen to an event."""
        for spec in self.workflows.values():
            if key in spec.event_keys:
                self.trigger(spec.name, input_json=json.dumps(payload), metadata=metadata, event_key=key)

    # ---------------------------------------------------------------------------------------------------------- queue

    def _enqueue(self, task: TaskRun, delay: float = 0.0) -> None:
        task.status, task.worker, task.released = Status.QUEUED, None, False
        task.queued_at = self._loop.time() + delay
        self._places.leave(task)
        task.due = task.queued_at
        self._queue.append(task)
        self._changed.set()

    def _assign(self) -> None:
        now = self._loop.time()
        self._queue.sort(key=lambda task: (-task.run.priority, task.queued_at))
        left: list[TaskRun] = []
        full: set[str] = set()
        for task in self._queue:
            if task.status is not Status.QUEUED:
                continue
            if task.due > now or not self._enters(task):
                left.append(task)
                continue
            worker = None if task.spec.action in full else self._choose(task)
            if worker is None:
                left.append(task)
                if not task.run.desired_worker:
                    full.add(task.spec.action)
            elif self.rates.take(task.spec.rates, now):
                self._start(task, worker)
            else:
                left.append(task)
        self._queue = left

    def _enters(self, task: TaskRun) -> bool:
        """Whether limits by number let a task through; what has no place any more is canceled."""
        enters, canceled = self._places.enter(task)
        self.cancel([one.run.id for one in canceled])
        return enters

    def _choose(self, task: TaskRun) -> Worker | None:
        able = [
            worker
            for worker in self.workers.values()
            if self.is_active(worker)
            and not worker.paused
            and task.spec.action in worker.actions
            and task.run.desired_worker in ("", worker.id)
            and all(worker.free(kind) >= count for kind, count in task.spec.slots.items())
        ]
        kind = next(iter(task.spec.slots), "default")
        return max(able, key=lambda worker: (worker.free(kind), -worker.given), default=None)

    def is_active(self, worker: Worker) -> bool:
        """Whether a worker listens and was heard of lately; a silent one is active again with its next heartbeat."""
        return worker.stream is not None and self.now() - worker.heartbeat <= _FRESH

    def _start(self, task: TaskRun, worker: Worker) -> None:
        task.status, task.worker = Status.RUNNING, worker
        task.times_out_at = self._loop.time() + task.spec.timeout
        if task.spec.durable:
            task.invocation += 1
            task.position = 0
        worker.given += 1
        worker.tasks.add(task)
        if worker.stream is not None:
            worker.stream.put_nowait(("start", task, task.retry_count))

    def release(self, task: TaskRun) -> None:
        """Take a task off its worker."""
        if task.worker is not None:
            task.worker.tasks.discard(task)
        self._changed.set()

    # --------------------------------------------------------------------------------------------------------- events

    def completed(self, task: TaskRun, attempt: int, output: str | None) -> None:
        """An attempt returned; a stale one changes nothing."""
        if task.status is not Status.RUNNING or task.retry_count != attempt:
            return
        task.output = output or None
        self._end(task, Status.COMPLETED)

    def failed(self, task: TaskRun, attempt: int, error: str, *, final: bool, delay: float | None = None) -> None:
        """An attempt raised or timed out; a stale one changes nothing."""
        if task.status is not Status.RUNNING or task.retry_count != attempt:
            return
        task.error = error
        if final or task.app_retries >= task.spec.retries:
            self._end(task, Status.FAILED)
            return
        self.release(task)
        task.app_retries += 1
        task.retry_count += 1
        if delay is None and task.spec.backoff_factor:
            delay = min(task.spec.backoff_factor**task.app_retries, task.spec.backoff_max or float("inf"))
        self._enqueue(task, delay or 0.0)

    def cancel(self, ids: Iterable[str]) -> list[str]:
        """Cancel runs or tasks by their ids in a moment, unless they end before; what runs is told to stop."""
        found: list[str] = []
        for identifier in ids:
            run, task = self.runs.get(identifier), self.tasks.get(identifier)
            tasks = list(run.tasks.values()) if run is not None else [task] if task is not None else []
            for one in tasks:
                if not one.status.ended:
                    found.append(one.id)
                    self.at(_CANCELED_IN, functools.partial(self._cancel, one, one.retry_count))
        return found

    def _cancel(self, task: TaskRun, attempt: int) -> None:
        if not task.status.ended and task.retry_count == attempt:
            self._stop(task)
            self._end(task, Status.CANCELLED)

    def replay(self, ids: Iterable[str]) -> None:
        """Run again what has ended."""
        for identifier in ids:
            run = self.runs.get(identifier)
            for task in run.tasks.values() if run is not None else ():
                if task.status.ended:
                    task.retry_count += 1
                    task.output, task.error, task.waits = None, "", False
                    task.run.finished = None
                    self._enqueue(task)

    def evict(self, task: TaskRun) -> None:
        """A durable task waits without a worker."""
        if task.status is Status.RUNNING:
            self.release(task)
            task.status, task.worker = Status.EVICTED, None
            if all(entry.satisfied for entry in task.log):
                self._enqueue(task)

    def wake(self, task: TaskRun) -> None:
        """What an evicted task waited for is there."""
        if task.status is Status.EVICTED:
            self._enqueue(task)

    def _stop(self, task: TaskRun) -> None:
        worker = task.worker
        if task.status is Status.RUNNING and worker is not None and worker.stream is not None:
            worker.stream.put_nowait(("cancel", task, task.retry_count))

    def _end(self, task: TaskRun, status: Status) -> None:
        self.release(task)
        self._places.leave(task)
        task.status = status
        run = task.run
        if status is Status.COMPLETED:
            self._start_children(run)
        elif task.spec is not run.spec.on_failure:
            for other in run.tasks.values():
                if other.waits and not other.status.ended:
                    other.status = Status.CANCELLED
        failure = run.spec.on_failure
        if failure is not None and failure.name not in run.tasks and run.done:
            if run.status is Status.FAILED:
                self._add(run, failure)
            elif run.status is Status.COMPLETED:
                self._skip(run, failure)
        if run.done and run.finished is None:
            run.finished = datetime.now(UTC)
            for tell in tuple(self.on_finished):
                tell(run)

    def _skip(self, run: WorkflowRun, spec: TaskSpec) -> None:
        task = TaskRun(id=new_uuid(), number=len(self.tasks) + 1, spec=spec, run=run, status=Status.COMPLETED)
        task.output = json.dumps({"skipped": True})
        run.tasks[spec.name] = self.tasks[task.id] = task

    def _start_children(self, run: WorkflowRun) -> None:
        done = {name for name, task in run.tasks.items() if task.status is Status.COMPLETED}
        for task in run.tasks.values():
            if task.waits and not task.status.ended and done.issuperset(task.spec.parents):
                task.waits = False
                self._enqueue(task)

    # ---------------------------------------------------------------------------------------------------------- clock

    def _look_at_the_clock(self) -> None:
        now = self._loop.time()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, action in due:
            action()
        for cron, metadata in self.crons.due():
            given = cron.input_json
            self.trigger(cron.workflow, input_json=given, metadata=json.dumps(metadata), priority=cron.priority)
        for task in self._queue:
            if task.status is Status.QUEUED and not task.waits and now - task.queued_at >= task.spec.schedule_timeout:
                task.unscheduled = True
                self._end(task, Status.CANCELLED)
        for worker in tuple(self.workers.values()):
            for task in tuple(worker.tasks):
                if now >= task.times_out_at:
                    self._stop(task)
                    error = f"Task exceeded timeout of {task.spec.timeout:g}s"
                    self.failed(task, task.retry_count, error, final=False)
            if now - worker.heartbeat > self._reassign_after:
                for task in tuple(worker.tasks):
                    self._reassign(task, "Task reached its maximum reassignment count")

    def _reassign(self, task: TaskRun, error: str) -> None:
        self.release(task)
        if task.internal_retries >= INTERNAL_RETRIES:
            task.error = error
            self._end(task, Status.FAILED)
            return
        task.internal_retries += 1
        task.retry_count += 1
        self._enqueue(task)

    def unlisten(self, worker: Worker, stream: asyncio.Queue[Any]) -> None:
        """A worker's stream ended: what was not handed over yet goes to another one, which counts as a retry."""
        if worker.stream is stream:
            worker.stream = None
        while not stream.empty():
            what, task, attempt = stream.get_nowait()
            if what == "start" and task.status is Status.RUNNING and task.retry_count == attempt:
                self._reassign(task, "Could not send task to worker. This likely means that ...")

    def now(self) -> float:
        """Return the clock's time."""
        return self._loop.time()

    def wake_up(self) -> None:
        """Something changed that may let a task start."""
        self._changed.set()
