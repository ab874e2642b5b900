"""What workers and waiting clients are connected to."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportUntypedBaseClass=false
# pyright: reportImplicitOverride=false
# grpc has no types, and neither have the servicers that its compiler writes.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from hatchet_sdk.contracts import dispatcher_pb2 as pb
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherServicer

from tests.hatchet.engine.core import Engine
from tests.hatchet.engine.values import TENANT, Status, TaskRun, Worker, WorkflowRun, new_uuid, seconds_of

VERSION = "v0.104.7"
Context = Any


class DispatcherService(DispatcherServicer):
    """Workers, their deliveries and reports; the ends of runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: dict[str, set[asyncio.Queue[pb.WorkflowEvent]]] = {}
        engine.on_finished.add(self._hang_up)

    async def GetVersion(self, request: Any, context: Context) -> pb.GetVersionResponse:
        return pb.GetVersionResponse(version=VERSION)

    async def Register(self, request: Any, context: Context) -> pb.WorkerRegisterResponse:
        worker = Worker(
            id=new_uuid(),
            name=request.worker_name,
            actions=frozenset(request.actions),
            slots=dict(request.slot_config) or {"default": request.slots or 100},
            heartbeat=self._engine.now(),
        )
        self._engine.workers[worker.id] = worker
        return pb.WorkerRegisterResponse(tenant_id=TENANT, worker_id=worker.id, worker_name=worker.name)

    async def _worker(self, identifier: str, context: Context) -> Worker:
        worker = self._engine.workers.get(identifier)
        if worker is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"worker not found: {identifier}")
            raise KeyError(identifier)
        return worker

    async def ListenV2(self, request: Any, context: Context) -> AsyncIterator[pb.AssignedAction]:
        worker = await self._worker(request.worker_id, context)
        stream: asyncio.Queue[tuple[str, TaskRun, int]] = asyncio.Queue()
        worker.stream, worker.heartbeat = stream, self._engine.now()
        self._engine.wake_up()
        try:
            while True:
                what, task, attempt = await stream.get()
                yield _action(what, task, attempt)
        finally:
            self._engine.unlisten(worker, stream)

    async def Heartbeat(self, request: Any, context: Context) -> pb.HeartbeatResponse:
        worker = await self._worker(request.worker_id, context)
        worker.heartbeat = self._engine.now()
        return pb.HeartbeatResponse()

    async def Unsubscribe(self, request: Any, context: Context) -> pb.WorkerUnsubscribeResponse:
        worker = await self._worker(request.worker_id, context)
        worker.stream = None
        return pb.WorkerUnsubscribeResponse(tenant_id=TENANT, worker_id=worker.id)

    async def SendStepActionEvent(self, request: Any, context: Context) -> pb.ActionEventResponse:
        task = await self._task(request.task_run_external_id, context)
        kind, attempt = request.event_type, request.retry_count
        if kind == pb.STEP_EVENT_TYPE_COMPLETED:
            self._engine.completed(task, attempt, request.event_payload)
        elif kind == pb.STEP_EVENT_TYPE_FAILED:
            delay = request.retry_after_ms / 1000 if request.HasField("retry_after_ms") else None
            self._engine.failed(task, attempt, request.event_payload, final=request.should_not_retry, delay=delay)
        elif kind == pb.STEP_EVENT_TYPE_CANCELLED:
            self._engine.cancel([task.id])
        return pb.ActionEventResponse(tenant_id=TENANT, worker_id=request.worker_id)

    async def _task(self, identifier: str, context: Context) -> TaskRun:
        task = self._engine.tasks.get(identifier)
        if task is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"invalid task external run id {identifier}")
            raise KeyError(identifier)
        return task

    async def RefreshTimeout(self, request: Any, context: Context) -> pb.RefreshTimeoutResponse:
        task = await self._task(request.task_run_external_id, context)
        task.times_out_at += seconds_of(request.increment_timeout_by)
        return pb.RefreshTimeoutResponse(timeout_at=Timestamp())

    async def ReleaseSlot(self, request: Any, context: Context) -> pb.ReleaseSlotResponse:
        task = await self._task(request.task_run_external_id, context)
        task.released = True
        self._engine.wake_up()
        return pb.ReleaseSlotResponse()

    async def UpsertWorkerLabels(self, request: Any, context: Context) -> pb.UpsertWorkerLabelsResponse:
        return pb.UpsertWorkerLabelsResponse(tenant_id=TENANT, worker_id=request.worker_id)

    async def SubscribeToWorkflowRuns(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[pb.WorkflowRunEvent]:
        ended: asyncio.Queue[WorkflowRun] = asyncio.Queue()
        wanted: set[str] = set()

        def tell(run: WorkflowRun) -> None:
            if run.id in wanted:
                ended.put_nowait(run)

        async def read() -> None:
            async for request in request_iterator:
                wanted.add(request.workflow_run_id)
                run = self._engine.runs.get(request.workflow_run_id)
                if run is not None and run.finished is not None:
                    ended.put_nowait(run)

        self._engine.on_finished.add(tell)
        reading = asyncio.create_task(read())
        try:
            while True:
                yield _run_event(await ended.get())
        finally:
            reading.cancel()
            self._engine.on_finished.discard(tell)

    async def SubscribeToWorkflowEvents(self, request: Any, context: Context) -> AsyncIterator[pb.WorkflowEvent]:
        run = self._engine.runs.get(request.workflow_run_id)
        events: asyncio.Queue[pb.WorkflowEvent] = asyncio.Queue()
        streams = self._streams.setdefault(request.workflow_run_id, set())
        streams.add(events)
        if run is not None and run.finished is not None:
            self._hang_up(run)
        try:
            while True:
                event = await events.get()
                yield event
                if event.hangup:
                    return
        finally:
            streams.discard(events)

    def streamed(self, request: Any) -> None:
        """A task streams something."""
        task = self._engine.tasks.get(request.task_run_external_id)
        for events in self._streams.get(task.run.id if task is not None else "", ()):
            event = pb.WorkflowEvent(
                workflow_run_id=task.run.id if task is not None else "",
                resource_type=pb.RESOURCE_TYPE_STEP_RUN,
                event_type=pb.RESOURCE_EVENT_TYPE_STREAM,
                resource_id=request.task_run_external_id,
                event_payload=request.message.decode(),
                event_index=request.event_index,
            )
            events.put_nowait(event)

    def _hang_up(self, run: WorkflowRun) -> None:
        for events in self._streams.get(run.id, ()):
            event = pb.WorkflowEvent(
                workflow_run_id=run.id,
                resource_type=pb.RESOURCE_TYPE_WORKFLOW_RUN,
                event_type=pb.RESOURCE_EVENT_TYPE_COMPLETED,
                resource_id=run.id,
                hangup=True,
            )
            events.put_nowait(event)


def _of_database(value: Any) -> Any:
    """Return a payload as the database gives it back: the keys of each mapping by their length, then by letters."""
    if isinstance(value, list):
        return [_of_database(item) for item in value]
    if isinstance(value, dict):
        return {key: _of_database(value[key]) for key in sorted(value, key=_place)}
    return value


def _place(key: str) -> tuple[int, str]:
    return len(key), key


def _action(what: str, task: TaskRun, attempt: int) -> pb.AssignedAction:
    run = task.run
    payload = {
        "input": _of_database(run.input) if attempt else run.input,
        "parents": {name: json.loads(run.tasks[name].output or "{}") for name in task.spec.parents},
        "overrides": {},
        "user_data": {},
        "triggered_by": "manual",
        "triggers": run.triggers,
        "step_run_errors": {name: t.error for name, t in run.tasks.items() if t.status is Status.FAILED},
    }
    action = pb.AssignedAction(
        tenant_id=TENANT,
        workflow_run_id=run.id,
        job_id=task.spec.id,
        job_name=task.spec.name,
        job_run_id=task.id,
        task_id=task.spec.id,
        task_run_external_id=task.id,
        action_id=task.spec.action,
        action_type=pb.START_STEP_RUN if what == "start" else pb.CANCEL_STEP_RUN,
        action_payload=json.dumps(payload) if what == "start" else "",
        task_name=task.spec.name,
        retry_count=attempt,
        priority=run.priority,
        workflow_id=run.spec.id,
        workflow_version_id=run.spec.version,
    )
    if run.metadata:
        action.additional_metadata = run.metadata
    if run.parent:
        action.parent_workflow_run_id = run.parent
        action.child_workflow_index = run.child_index
    if run.child_key:
        action.child_workflow_key = run.child_key
    if run.event_key:
        action.triggering_event_key = run.event_key
    if task.spec.durable:
        action.durable_task_invocation_count = task.invocation
    return action


def _run_event(run: WorkflowRun) -> pb.WorkflowRunEvent:
    now = Timestamp()
    now.GetCurrentTime()
    event = pb.WorkflowRunEvent(
        workflow_run_id=run.id, event_type=pb.WORKFLOW_RUN_EVENT_TYPE_FINISHED, event_timestamp=now
    )
    for name, task in run.tasks.items():
        result = pb.StepRunResult(task_run_external_id=task.id, task_name=name, job_run_id=task.id)
        if task.status is Status.COMPLETED:
            result.output = task.output or ""
        else:
            result.error = task.error if task.status is Status.FAILED else ""
        event.results.append(result)
    return event
