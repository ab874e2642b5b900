"""The way to the engine: triggers in bulk, questions about runs, cancels."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
# grpc has no types, and neither have the stubs that its compiler writes.

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from hatchet_sdk.config import ClientConfig
from hatchet_sdk.connection import new_conn
from hatchet_sdk.contracts.v1 import workflows_pb2 as v1
from hatchet_sdk.contracts.v1.shared.trigger_pb2 import TriggerWorkflowRequest
from hatchet_sdk.contracts.v1.workflows_pb2_grpc import AdminServiceStub
from hatchet_sdk.contracts.workflows_pb2 import BulkTriggerWorkflowRequest
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub

from mageflow.backends.base import Finding, RunState, Submission, Verdict
from mageflow.backends.hatchet.wire import MAX_PAYLOAD, NOTE, PATIENCE, WORKFLOW

logger = logging.getLogger("mageflow.hatchet")

BULK = 1000
"""Runs in a request at the most: the engine's limit, as Hatchet's own client knows it."""
_SHORT_PAUSE, _LONG_PAUSE = 0.005, 0.06
_ALONE = 1.5
"""Up to so many runs a request, lately, they come one by one, as the steps of a chain do."""
_TIMEOUT = 30.0
_ASK_TIMEOUT = 5.0
_UNKNOWN_NAME = "names not found"
_STATES = {
    v1.QUEUED: RunState.QUEUED,
    v1.RUNNING: RunState.RUNNING,
    v1.EVICTED: RunState.RUNNING,
    v1.COMPLETED: RunState.GONE,
    v1.FAILED: RunState.FAILED,
    v1.CANCELLED: RunState.CANCELED,
}
SCHEDULE_TIMEOUT = 300.0
"""Seconds that Hatchet lets a run wait for a worker where its task does not say otherwise."""
_Waiting = tuple[TriggerWorkflowRequest, "asyncio.Future[Submission]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of a run.

    `evicted`: it waits without a worker; `of_workflow`: it has several tasks; `patience`: the seconds after which
    Hatchet cancels it where no worker takes it.
    """

    finding: Finding
    evicted: bool = False
    of_workflow: bool = False
    patience: float = SCHEDULE_TIMEOUT


class Sender:
    """Connections of one event loop to the engine; they open with the first call.

    One request at a time: overlapping ones are slower, because the engine writes and schedules within the call. What
    comes within 5 ms goes out together, and within 60 ms where runs did come together lately: a request for ten costs
    the engine little more than one for a single run.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._metadata = (("authorization", f"bearer {config.token}"),)
        self._channel = new_conn(config, aio=True)
        self._workflows = WorkflowServiceStub(self._channel)
        self._admin = AdminServiceStub(self._channel)
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._together = 1.0
        """How many runs a request had lately."""

    async def submit(self, requests: Sequence[TriggerWorkflowRequest]) -> list[Submission]:
        """Trigger runs; one answer each, in order."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in requests]
        self._waiting.extend(zip(requests, futures, strict=True))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="mageflow-hatchet-submit")
        return await asyncio.gather(*futures)

    async def _flush(self) -> None:
        while self._waiting:
            await asyncio.sleep(_LONG_PAUSE if self._together > _ALONE else _SHORT_PAUSE)
            waiting, self._waiting = self._waiting, []
            self._together += (len(waiting) - self._together) / 4
            for chunk in _chunks(waiting):
                answers = await self._trigger([request for request, _ in chunk])
                for (_, future), answer in zip(chunk, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)

    async def _trigger(self, requests: list[TriggerWorkflowRequest]) -> list[Submission]:
        """Trigger a bulk; where the engine refuses it as a whole, its halves, down to the one that is wrong."""
        bulk = BulkTriggerWorkflowRequest(workflows=requests)
        try:
            reply: Any = await self._workflows.BulkTriggerWorkflow(bulk, metadata=self._metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), str(error.details())
        except Exception as error:  # noqa: BLE001 - a closed channel raises errors of no common type; a sweeper submits again
            return [Submission(verdict=Verdict.RETRY, reason=repr(error))] * len(requests)
        else:
            return [Submission(verdict=Verdict.ACCEPTED, manager_run=run) for run in reply.workflow_run_ids]
        if code not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS):
            return [Submission(verdict=Verdict.RETRY, reason=f"{code.name}: {details}")] * len(requests)
        if len(requests) > 1:
            middle = len(requests) // 2
            return [*await self._trigger(requests[:middle]), *await self._trigger(requests[middle:])]
        verdict = Verdict.RETRY if _UNKNOWN_NAME in details else Verdict.REFUSED
        return [Submission(verdict=verdict, reason=details)]

    async def ask(self, run: str) -> Asked:
        """Ask what became of a run."""
        try:
            request = v1.GetRunDetailsRequest(external_id=run)
            reply: Any = await self._admin.GetRunDetails(request, metadata=self._metadata, timeout=_ASK_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return Asked(finding=Finding(state=RunState.GONE))
            return Asked(finding=Finding(state=RunState.UNKNOWN, reason=str(error.details())))
        except Exception as error:  # noqa: BLE001 - as above
            return Asked(finding=Finding(state=RunState.UNKNOWN, reason=repr(error)))
        tasks = reply.task_runs.values()
        evicted = reply.is_evicted or any(task.status == v1.EVICTED for task in tasks)
        metadata = json.loads(reply.additional_metadata or b"{}")
        state = _STATES.get(reply.status, RunState.UNKNOWN)
        of_workflow = WORKFLOW in metadata
        finding = _of_workflow(reply) if of_workflow else Finding(state=state, reason=_errors_of(reply))
        patience = float(metadata.get(PATIENCE, SCHEDULE_TIMEOUT))
        return Asked(finding=finding, evicted=evicted, of_workflow=of_workflow, patience=patience)

    async def cancel(self, runs: Sequence[str]) -> None:
        """Cancel runs, as far as the engine can be reached."""
        try:
            request = v1.CancelTasksRequest(external_ids=runs)
            await self._admin.CancelTasks(request, metadata=self._metadata, timeout=_ASK_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - best effort: what is delivered of them is turned away
            logger.info("%d runs were not canceled at the engine: %r", len(runs), error)

    async def close(self) -> None:
        """Submit what waits, then close the connections."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._channel.close()


def _errors_of(reply: Any) -> str:
    return "; ".join(task.error for task in reply.task_runs.values() if task.error)


def _of_workflow(reply: Any) -> Finding:
    """Judge a run of several tasks, when all of them have ended: no worker reports what became of it."""
    state = _STATES.get(reply.status, RunState.UNKNOWN)
    if not reply.done:
        return Finding(state=RunState.QUEUED if state is RunState.QUEUED else RunState.RUNNING)
    results = {name: json.loads(task.output) for name, task in reply.task_runs.items() if task.output}
    if any(isinstance(result, dict) and NOTE in result for result in results.values()):
        return Finding(state=RunState.GONE)
    if reply.status == v1.COMPLETED:
        return Finding(state=RunState.DONE, result=results)
    return Finding(state=state, reason=_errors_of(reply))


def _chunks(waiting: Iterable[_Waiting]) -> Iterable[list[_Waiting]]:
    """Cut into requests that the engine takes."""
    chunk: list[_Waiting] = []
    size = 0
    for entry in waiting:
        bytes_ = entry[0].ByteSize()
        if chunk and (size + bytes_ > MAX_PAYLOAD or len(chunk) == BULK):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += bytes_
    if chunk:
        yield chunk
