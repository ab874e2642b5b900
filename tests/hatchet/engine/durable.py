"""Durable tasks: a log of what each asked for, answered again when it is replayed."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportUntypedBaseClass=false
# pyright: reportImplicitOverride=false
# grpc has no types, and neither have the servicers that its compiler writes.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from hatchet_sdk.contracts.v1 import dispatcher_pb2 as pb
from hatchet_sdk.contracts.v1.dispatcher_pb2_grpc import V1DispatcherServicer

from tests.hatchet.engine.core import Engine
from tests.hatchet.engine.triggers import trigger
from tests.hatchet.engine.values import LogEntry, Status, TaskRun, Worker, WorkflowRun, new_uuid, seconds_of

BRANCH = 1


@dataclass(slots=True, eq=False)
class _Wait:
    """Conditions of one entry: each group needs one of its keys."""

    task: TaskRun
    entry: LogEntry
    groups: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    events: dict[str, str] = field(default_factory=dict[str, str])
    matches: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def met(self) -> bool:
        """Whether every group has a match."""
        return all(keys & self.matches.keys() for keys in self.groups.values())


class DurableService(V1DispatcherServicer):
    """The stream on which durable tasks register what they wait for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waits: set[_Wait] = set()
        self._children: dict[str, tuple[TaskRun, LogEntry]] = {}
        engine.on_finished.add(self._child_ended)

    async def DurableTask(
        self, request_iterator: AsyncIterator[pb.DurableTaskRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.DurableTaskResponse]:
        responses: asyncio.Queue[pb.DurableTaskResponse] = asyncio.Queue()
        reading = asyncio.create_task(self._read(request_iterator, responses))
        try:
            while True:
                yield await responses.get()
        finally:
            reading.cancel()

    async def _read(
        self, requests: AsyncIterator[pb.DurableTaskRequest], responses: asyncio.Queue[pb.DurableTaskResponse]
    ) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "wait_for": self._wait_for,
            "trigger_runs": self._trigger_runs,
            "memo": self._memo,
            "evict_invocation": self._evict,
        }
        async for request in requests:
            kind = str(request.WhichOneof("message"))
            part = getattr(request, kind)
            if kind == "register_worker":
                worker = self._engine.workers.get(part.worker_id)
                if worker is not None:
                    worker.durable = responses
                ready = pb.DurableTaskResponseRegisterWorker(worker_id=part.worker_id)
                responses.put_nowait(pb.DurableTaskResponse(register_worker=ready))
            elif kind == "complete_memo":
                self._complete_memo(part)
            elif kind == "worker_status":
                self._worker_status(part)
            else:
                handlers[kind](part, responses)

    def _current(self, request: Any, responses: asyncio.Queue[pb.DurableTaskResponse]) -> TaskRun | None:
        """Return the task of a request; an invocation that is not the newest is told to go."""
        task = self._engine.tasks.get(request.durable_task_external_id)
        if task is None:
            return None
        if task.invocation == request.invocation_count and task.status is Status.RUNNING:
            return task
        notice = pb.DurableTaskServerEvictNotice(
            durable_task_external_id=task.id, invocation_count=request.invocation_count, reason="stale invocation"
        )
        responses.put_nowait(pb.DurableTaskResponse(server_evict=notice))
        return None

    def _entry(self, task: TaskRun, kind: str, key: bytes) -> tuple[LogEntry, bool]:
        """Return the next entry of a task, and whether an earlier invocation made it."""
        task.position += 1
        if task.position <= len(task.log):
            return task.log[task.position - 1], True
        entry = LogEntry(node=task.position, kind=kind, key=key)
        task.log.append(entry)
        return entry, False

    def _refused(self, task: TaskRun, entry: LogEntry, kind: str, responses: asyncio.Queue[Any]) -> bool:
        """Whether a replay asks for another thing than the run before it; it is told so."""
        if entry.kind == kind:
            return False
        error = pb.DurableTaskErrorResponse(
            ref=_ref(task, entry),
            error_type=pb.DURABLE_TASK_ERROR_TYPE_NONDETERMINISM,
            error_message=f"node {entry.node} was a {entry.kind}, now a {kind}",
        )
        responses.put_nowait(pb.DurableTaskResponse(error=error))
        return True

    def _wait_for(self, request: pb.DurableTaskWaitForRequest, responses: asyncio.Queue[Any]) -> None:
        task = self._current(request, responses)
        if task is None:
            return
        entry, known = self._entry(task, "wait_for", b"")
        if self._refused(task, entry, "wait_for", responses):
            return
        acknowledged = pb.DurableTaskEventWaitForAckResponse(ref=_ref(task, entry))
        responses.put_nowait(pb.DurableTaskResponse(wait_for_ack=acknowledged))
        if entry.satisfied:
            responses.put_nowait(_completed(task, entry))
        elif not known:
            self._register(_Wait(task, entry), request.wait_for_conditions)

    def _register(self, wait: _Wait, conditions: Any) -> None:
        for condition in conditions.sleep_conditions:
            key = condition.base.readable_data_key
            wait.groups.setdefault(condition.base.or_group_id, set()).add(key)
            match = {"id": new_uuid(), "sleep_duration": condition.sleep_for}
            self._engine.at(seconds_of(condition.sleep_for), lambda key=key, match=match: self._match(wait, key, match))
        for condition in conditions.user_event_conditions:
            key = condition.base.readable_data_key
            wait.groups.setdefault(condition.base.or_group_id, set()).add(key)
            wait.events[condition.user_event_key] = key
        self._waits.add(wait)

    def push_event(self, key: str, payload: dict[str, Any]) -> None:
        """Wake what waits for an event."""
        for wait in tuple(self._waits):
            if key in wait.events:
                self._match(wait, wait.events[key], payload)

    def _match(self, wait: _Wait, key: str, match: dict[str, Any]) -> None:
        if wait not in self._waits:
            return
        wait.matches.setdefault(key, []).append(match)
        if wait.met():
            self._waits.discard(wait)
            self._satisfy(wait.task, wait.entry, json.dumps({"CREATE": wait.matches}).encode())

    def _satisfy(self, task: TaskRun, entry: LogEntry, payload: bytes, error: str = "") -> None:
        entry.satisfied, entry.payload, entry.error = True, payload, error
        entry.order = max(other.order for other in task.log) + 1
        worker = task.worker
        if task.status is Status.RUNNING and worker is not None and worker.durable is not None:
            if task.position >= entry.node:
                worker.durable.put_nowait(_completed(task, entry))
        else:
            self._engine.wake(task)

    def _trigger_runs(self, request: pb.DurableTaskTriggerRunsRequest, responses: asyncio.Queue[Any]) -> None:
        task = self._current(request, responses)
        if task is None:
            return
        entries: list[LogEntry] = []
        for options in request.trigger_opts:
            entry, known = self._entry(task, "run", b"")
            if self._refused(task, entry, "run", responses):
                return
            if not known:
                options.child_key = f"durable {entry.node}"
                entry.run_id = trigger(self._engine, options)
                self._children[entry.run_id] = (task, entry)
            entries.append(entry)
        acknowledged = pb.DurableTaskEventTriggerRunsAckResponse(
            durable_task_external_id=task.id,
            invocation_count=task.invocation,
            run_entries=[
                pb.DurableTaskRunAckEntry(node_id=e.node, branch_id=BRANCH, workflow_run_external_id=e.run_id)
                for e in entries
            ],
        )
        responses.put_nowait(pb.DurableTaskResponse(trigger_runs_ack=acknowledged))
        for entry in entries:
            if entry.satisfied:
                responses.put_nowait(_completed(task, entry))

    def _child_ended(self, run: WorkflowRun) -> None:
        known = self._children.pop(run.id, None)
        if known is None:
            return
        outputs = {name: json.loads(task.output) for name, task in run.tasks.items() if task.output}
        single = len(run.tasks) == 1
        payload = next(iter(outputs.values()), {}) if single else outputs
        errors = [task.error for task in run.tasks.values() if task.status is Status.FAILED]
        self._satisfy(*known, json.dumps(payload).encode(), errors[0] if errors else "")

    def _memo(self, request: pb.DurableTaskMemoRequest, responses: asyncio.Queue[Any]) -> None:
        task = self._current(request, responses)
        if task is None:
            return
        entry, known = self._entry(task, "memo", request.key)
        if self._refused(task, entry, "memo", responses):
            return
        acknowledged = pb.DurableTaskEventMemoAckResponse(
            ref=_ref(task, entry), memo_already_existed=known and entry.satisfied, memo_result_payload=entry.payload
        )
        responses.put_nowait(pb.DurableTaskResponse(memo_ack=acknowledged))
        if entry.satisfied:
            responses.put_nowait(_completed(task, entry))

    def _complete_memo(self, request: pb.DurableTaskCompleteMemoRequest) -> None:
        task = self._engine.tasks.get(request.ref.durable_task_external_id)
        if task is not None and request.ref.node_id <= len(task.log):
            self._satisfy(task, task.log[request.ref.node_id - 1], request.payload)

    def _worker_status(self, request: pb.DurableTaskWorkerStatusRequest) -> None:
        """Answer again what a worker still waits for."""
        worker: Worker | None = self._engine.workers.get(request.worker_id)
        for waiting in request.waiting_entries:
            task = self._engine.tasks.get(waiting.durable_task_external_id)
            if task is None or worker is None or worker.durable is None or waiting.node_id > len(task.log):
                continue
            entry = task.log[waiting.node_id - 1]
            if entry.satisfied and task.invocation == waiting.invocation_count:
                worker.durable.put_nowait(_completed(task, entry))

    def _evict(self, request: pb.DurableTaskEvictInvocationRequest, responses: asyncio.Queue[Any]) -> None:
        task = self._current(request, responses)
        if task is None:
            return
        self._engine.evict(task)
        acknowledged = pb.DurableTaskEvictionAckResponse(
            invocation_count=request.invocation_count, durable_task_external_id=task.id
        )
        responses.put_nowait(pb.DurableTaskResponse(eviction_ack=acknowledged))


def _ref(task: TaskRun, entry: LogEntry) -> pb.DurableEventLogEntryRef:
    return pb.DurableEventLogEntryRef(
        durable_task_external_id=task.id, invocation_count=task.invocation, branch_id=BRANCH, node_id=entry.node
    )


def _completed(task: TaskRun, entry: LogEntry) -> pb.DurableTaskResponse:
    completed = pb.DurableTaskEventLogEntryCompletedResponse(
        ref=_ref(task, entry), payload=entry.payload, is_failure=bool(entry.error), satisfied_order=entry.order
    )
    if entry.error:
        completed.error_message = entry.error
    return pb.DurableTaskResponse(entry_completed=completed)
