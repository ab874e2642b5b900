"""What clients ask for: workflows, runs, events, details."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportUntypedBaseClass=false
# pyright: reportImplicitOverride=false
# grpc has no types, and neither have the servicers that its compiler writes.

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from hatchet_sdk.contracts import events_pb2, workflows_pb2
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceServicer
from hatchet_sdk.contracts.v1 import workflows_pb2 as v1
from hatchet_sdk.contracts.v1.workflows_pb2_grpc import AdminServiceServicer
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceServicer

from tests.hatchet.engine.core import Engine
from tests.hatchet.engine.limits import STRATEGIES, check_expression
from tests.hatchet.engine.values import (
    TENANT,
    Limit,
    RateOf,
    TaskSpec,
    UnsupportedError,
    WorkflowSpec,
    new_uuid,
    seconds_of,
)

Context = Any
_WINDOWS = {"SECOND": 1.0, "MINUTE": 60.0, "HOUR": 3600.0, "DAY": 86_400.0}


def trigger(engine: Engine, request: Any) -> str:
    """Start the run that a request asks for."""
    if request.desired_worker_labels:
        raise UnsupportedError("worker labels")
    return engine.trigger(
        request.name,
        input_json=request.input,
        metadata=request.additional_metadata,
        priority=request.priority,
        parent=request.parent_task_run_external_id,
        child_index=request.child_index,
        child_key=request.child_key,
        desired_worker=request.desired_worker_id,
    )


class WorkflowService(WorkflowServiceServicer):
    """Triggers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def TriggerWorkflow(self, request: Any, context: Context) -> workflows_pb2.TriggerWorkflowResponse:
        await _check_payloads([request], context)
        return workflows_pb2.TriggerWorkflowResponse(workflow_run_id=trigger(self._engine, request))

    async def BulkTriggerWorkflow(self, request: Any, context: Context) -> workflows_pb2.BulkTriggerWorkflowResponse:
        await _check_payloads(request.workflows, context)
        ids = [trigger(self._engine, one) for one in request.workflows]
        return workflows_pb2.BulkTriggerWorkflowResponse(workflow_run_ids=ids)

    async def ScheduleWorkflow(self, request: Any, context: Context) -> workflows_pb2.WorkflowVersion:
        scheduled: list[workflows_pb2.ScheduledWorkflow] = []
        now = Timestamp()
        now.GetCurrentTime()
        for moment in request.schedules:
            request_copy = workflows_pb2.ScheduleWorkflowRequest()
            request_copy.CopyFrom(request)
            seconds = (moment.ToNanoseconds() - now.ToNanoseconds()) / 1e9
            self._engine.at(seconds, lambda asked=request_copy: self._run_scheduled(asked))
            scheduled.append(workflows_pb2.ScheduledWorkflow(id=new_uuid(), trigger_at=moment))
        return workflows_pb2.WorkflowVersion(id=new_uuid(), scheduled_workflows=scheduled)

    async def PutRateLimit(self, request: Any, context: Context) -> workflows_pb2.PutRateLimitResponse:
        window = _WINDOWS.get(workflows_pb2.RateLimitDuration.Name(request.duration))
        if window is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this engine for tests knows windows up to a day")
            raise ValueError(request.duration)
        self._engine.rates.put(request.key, request.limit, window, self._engine.now())
        return workflows_pb2.PutRateLimitResponse()

    def _run_scheduled(self, request: Any) -> None:
        self._engine.trigger(
            request.name, input_json=request.input, metadata=request.additional_metadata, priority=request.priority
        )


async def _check_payloads(requests: Iterable[Any], context: Context) -> None:
    """Refuse all of a request when one of its payloads is not for the database."""
    for request in requests:
        for name, payload in (("payload", request.input), ("additionalMetadata", request.additional_metadata)):
            if "\0" in _text_of(payload):
                details = f"Invalid request: encoded jsonb contains invalid null character \\u0000 in field `{name}`"
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, details)


def _text_of(payload: str) -> str:
    """Return all strings of a JSON text, decoded."""
    found: list[str] = []
    todo: list[Any] = [json.loads(payload or "null")]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            todo.extend([*value.keys(), *value.values()])
        elif isinstance(value, list):
            todo.extend(value)
    return "".join(found)


class AdminService(AdminServiceServicer):
    """Workflows and details."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def PutWorkflow(self, request: Any, context: Context) -> v1.CreateWorkflowVersionResponse:
        try:
            spec = _workflow_of(request)
            self._engine.crons.declare(spec)
        except UnsupportedError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this engine for tests does not do: {error}")
            raise
        known = self._engine.workflows.get(spec.name)
        identifier = known.id if known is not None else spec.id
        self._engine.workflows[spec.name] = spec
        return v1.CreateWorkflowVersionResponse(id=spec.version, workflow_id=identifier)

    async def TriggerWorkflowRun(self, request: Any, context: Context) -> v1.TriggerWorkflowRunResponse:
        identifier = self._engine.trigger(
            request.workflow_name,
            input_json=request.input.decode(),
            metadata=request.additional_metadata.decode(),
            priority=request.priority,
        )
        return v1.TriggerWorkflowRunResponse(external_id=identifier)

    async def CancelTasks(self, request: Any, context: Context) -> v1.CancelTasksResponse:
        return v1.CancelTasksResponse(cancelled_tasks=self._engine.cancel(request.external_ids))

    async def ReplayTasks(self, request: Any, context: Context) -> v1.ReplayTasksResponse:
        self._engine.replay(request.external_ids)
        return v1.ReplayTasksResponse(replayed_tasks=request.external_ids)

    async def GetRunDetails(self, request: Any, context: Context) -> v1.GetRunDetailsResponse:
        run = self._engine.runs.get(request.external_id)
        if run is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "workflow run not found")
            raise KeyError(request.external_id)
        details = v1.GetRunDetailsResponse(
            input=json.dumps(run.input).encode(),
            additional_metadata=run.metadata.encode(),
            status=run.status.value,
            done=run.done,
        )
        for name, task in run.tasks.items():
            detail = v1.TaskRunDetail(external_id=task.id, readable_id=name, status=task.status.value, error=task.error)
            if task.output is not None:
                detail.output = task.output.encode()
            details.task_runs[name].CopyFrom(detail)
        return details


class EventsService(EventsServiceServicer):
    """Events and logs; `listeners` wake durable tasks, `streams` are told what tasks stream."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.streams: list[Callable[[Any], None]] = []

    async def Push(self, request: Any, context: Context) -> events_pb2.Event:
        payload = json.loads(request.payload or "{}")
        self._engine.push_event(request.key, payload, request.additional_metadata)
        for listener in self.listeners:
            listener(request.key, payload)
        return events_pb2.Event(
            tenant_id=TENANT,
            event_id=new_uuid(),
            key=request.key,
            payload=request.payload,
            event_timestamp=request.event_timestamp,
            additional_metadata=request.additional_metadata,
        )

    async def BulkPush(self, request: Any, context: Context) -> events_pb2.Events:
        return events_pb2.Events(events=[await self.Push(event, context) for event in request.events])

    async def PutLog(self, request: Any, context: Context) -> events_pb2.PutLogResponse:
        return events_pb2.PutLogResponse()

    async def PutStreamEvent(self, request: Any, context: Context) -> events_pb2.PutStreamEventResponse:
        for stream in tuple(self.streams):
            stream(request)
        return events_pb2.PutStreamEventResponse()


def _workflow_of(request: Any) -> WorkflowSpec:
    unsupported = {
        "sticky workers": request.HasField("sticky"),
        "filters": request.default_filters,
        "idempotency keys": request.HasField("idempotency"),
    }
    _refuse(unsupported)
    limits = [*request.concurrency_arr, *([request.concurrency] if request.HasField("concurrency") else [])]
    tasks = [_task_of(task) for task in request.tasks]
    return WorkflowSpec(
        id=new_uuid(),
        version=new_uuid(),
        name=request.name,
        tasks={task.name: task for task in tasks},
        on_failure=_task_of(request.on_failure_task) if request.HasField("on_failure_task") else None,
        priority=request.default_priority or 1,
        event_keys=tuple(request.event_triggers),
        limits=_limits(limits, of_run=True),
        crons=tuple(request.cron_triggers),
        cron_input=request.cron_input,
    )


def _refuse(unsupported: dict[str, Any]) -> None:
    found = [name for name, asked in unsupported.items() if asked]
    if found:
        raise UnsupportedError(", ".join(found))


def _limits(asked: Iterable[Any], *, of_run: bool) -> tuple[Limit, ...]:
    found: list[Limit] = []
    for limit in asked:
        strategy = v1.ConcurrencyLimitStrategy.Name(limit.limit_strategy)
        others = {"limits of a tenant": limit.is_tenant_scoped, strategy: strategy not in STRATEGIES}
        _refuse({**others, "computed limits": limit.max_runs_expression})
        expression = check_expression(limit.expression)
        found.append(Limit(expression=expression, max_runs=limit.max_runs, strategy=strategy, of_run=of_run))
    return tuple(found)


def _rates(asked: Iterable[Any]) -> tuple[RateOf, ...]:
    computed = any(rate.key_expr or rate.units_expr for rate in asked)
    _refuse({"computed rate limits": computed})
    return tuple(RateOf(key=rate.key, units=rate.units) for rate in asked)


def _task_of(request: Any) -> TaskSpec:
    conditions = request.conditions
    unsupported = {
        "worker labels": request.worker_labels,
        "conditions": conditions.parent_override_conditions
        or conditions.sleep_conditions
        or conditions.user_event_conditions,
        "batches": request.HasField("batch"),
    }
    _refuse(unsupported)
    return TaskSpec(
        id=new_uuid(),
        name=request.readable_id,
        action=request.action,
        timeout=seconds_of(request.timeout) or 60.0,
        schedule_timeout=seconds_of(request.schedule_timeout) or 300.0,
        retries=request.retries,
        backoff_factor=request.backoff_factor,
        backoff_max=request.backoff_max_seconds,
        durable=request.is_durable,
        slots=dict(request.slot_requests) or {"default": 1},
        parents=tuple(request.parents),
        limits=_limits(request.concurrency, of_run=False),
        rates=_rates(request.rate_limits),
    )
