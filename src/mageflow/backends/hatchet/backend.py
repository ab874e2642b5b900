"""Hatchet's client with flows: its decorators register tasks of both, its workers run both."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hatchet_sdk import EmptyModel, Hatchet, V1TaskStatus, Worker
from hatchet_sdk.runnables.workflow import BaseWorkflow, Standalone, Workflow  # pyright: ignore[reportMissingTypeStubs] - a client of it
from pydantic import TypeAdapter
from typing_extensions import override

from mageflow.backends.base import (
    Backend,
    Capabilities,
    Finding,
    FoundTask,
    Host,
    ManagerRun,
    RunState,
    Submission,
    TaskOptions,
    Verdict,
)
from mageflow.backends.hatchet.sender import BULK, Asked, Sender
from mageflow.backends.hatchet.shape import Shape, lenient, shape_of, validator_of
from mageflow.backends.hatchet.wire import MAX_PAYLOAD, Refusal, check_options, request_of
from mageflow.backends.hatchet.workflows import Followers, replace_decorators
from mageflow.backends.hatchet.wrapping import Wrapped, keep_mock_run, wrap
from mageflow.config import AcceptParams, in_seconds, span_in_seconds
from mageflow.flow.command import Dispatch
from mageflow.flow.task import TaskDefinition

logger = logging.getLogger("mageflow.hatchet")

_EXECUTION_TIMEOUT = timedelta(seconds=60)
_SHOWN = {V1TaskStatus.FAILED: RunState.GONE, V1TaskStatus.CANCELLED: RunState.CANCELED}
_LOST = ("exceeded timeout", "Could not send task to worker", "Task reached its maximum reassignment count")
"""Why the engine gives up what never began, and is no failure of the task."""
_THREADS = 1000
"""Plain functions at a time; Hatchet's slots bound them before."""
_ASKED_AT_ONCE = 20


class FlowHatchet(Hatchet):
    """The user's client, on the same settings, with workers that serve flows."""

    def __init__(self, backend: HatchetBackend, hatchet: Hatchet) -> None:
        super().__init__(config=hatchet.config)
        self._backend = backend
        self._plain = hatchet

    @property
    @override
    def stubs(self) -> Any:
        """Stand-ins for tasks of other services; nothing of them is registered here."""
        return self._plain.stubs

    def make_task(self, decorator: str, function: Callable[..., Any], options: dict[str, Any]) -> Any:
        """Apply a decorator of Hatchet."""
        return getattr(super(), decorator)(**options)(function)

    @override
    def workflow(self, **options: Any) -> Any:
        """Declare a workflow of several tasks, which can be one signature; see Hatchet's own."""
        validator = options.get("input_validator")
        made = super().workflow(**{**options, "input_validator": lenient(self, validator)})
        self._backend.add_workflow(made, validator, options.get("default_additional_metadata") or {})
        return made

    @override
    def worker(self, name: str = "mageflow", *args: Any, **options: Any) -> Worker:  # type: ignore[override]
        """Return a worker; without `workflows` it serves every task that is registered with this client."""
        given = options.pop("lifespan", None)
        if options.get("workflows") is None and len(args) < 4:
            options["workflows"] = [workflow for workflow in self._backend.workflows.values() if workflow.tasks]
        return super().worker(name, *args, lifespan=self._backend.lifespan(given), **options)


class HatchetBackend(Backend):
    """Flows on a Hatchet engine (SDK 1.43 or newer)."""

    capabilities = Capabilities(
        bulk=BULK, start_timeout=5.0, payload_limit=MAX_PAYLOAD, redelivers=True, interrupts=True, probes=True
    )

    def __init__(self, hatchet: Hatchet, namespace: str) -> None:
        self.namespace = namespace
        self.host: Host | None = None
        self.workflows: dict[str, BaseWorkflow[Any]] = {}
        self._hatchet = FlowHatchet(self, hatchet)
        self._senders: dict[asyncio.AbstractEventLoop, Sender] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._known: set[str] = set()
        self._found: list[FoundTask] = []
        self.followers = Followers(self)

    @property
    @override
    def manager(self) -> Hatchet:
        return self._hatchet

    @property
    def threads(self) -> ThreadPoolExecutor:
        """The threads of plain functions."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mageflow-hatchet")
        return self._pool

    # ---------------------------------------------------------------------------------------------------- registration

    @override
    def filled_parameters(self, task: TaskOptions) -> tuple[str, ...]:
        return shape_of(task.function, task.param_config).filled

    @override
    def register(self, task: TaskOptions) -> tuple[Any, TaskDefinition]:
        name = task.name or task.function.__name__
        options: dict[str, Any] = {**task.options, "name": name, "retries": task.retries}
        limit = _EXECUTION_TIMEOUT + task.stagger if task.execution_timeout is None else task.execution_timeout
        options["execution_timeout"] = timedelta(seconds=math.ceil(in_seconds(limit)))
        if task.input_validator is not None:
            options["input_validator"] = task.input_validator
        shape = shape_of(task.function, task.param_config)
        decorator = "durable_task" if task.durable else "task"
        return self._make(decorator, task.function, options, shape, wraps=task.wrap_result)

    def _make(
        self,
        decorator: str,
        function: Callable[..., Any],
        options: dict[str, Any],
        shape: Shape,
        *,
        wraps: bool = True,
    ) -> tuple[Standalone[Any, Any], TaskDefinition]:
        name = options.get("name") or function.__name__
        validator = validator_of(shape, options.get("input_validator"))
        wrapped = Wrapped(
            name=name,
            function=function,
            shape=shape,
            validator=validator,
            retries=options.get("retries", 0),
            wraps=wraps,
            backoff=(options.get("backoff_factor"), options.get("backoff_max_seconds")),
        )
        options = {**options, "input_validator": lenient(self._hatchet, validator)}
        made = keep_mock_run(self._hatchet.make_task(decorator, wrap(wrapped, self), options), function)
        _keep_schema(made, validator)
        self.workflows[name] = made
        limit = options["execution_timeout"].total_seconds()
        metadata: dict[str, Any] = options.get("default_additional_metadata") or {}
        labels: dict[str, Any] = {"metadata": metadata} if metadata else {}
        patience = span_in_seconds(options.get("schedule_timeout"))
        if patience is not None:
            labels["schedule_timeout"] = patience
        return made, TaskDefinition(name=name, retries=wrapped.retries, execution_timeout=limit, labels=labels)

    def add_workflow(self, workflow: Workflow[Any], validator: Any, metadata: dict[str, Any]) -> None:
        """Make a workflow of several tasks a task of flows, whatever its decorators will add to it."""
        name = workflow.name.removeprefix(self._hatchet.namespace)
        self.workflows[name] = workflow
        _keep_schema(workflow, validator)

        def wrapped(function: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
            task = Wrapped(
                name=options.get("name") or function.__name__,
                function=function,
                shape=shape_of(function, AcceptParams.ALL),
                validator=validator or EmptyModel,
                retries=0,
            )
            return wrap(task, self)

        replace_decorators(workflow, wrapped, keep_mock_run)
        self._found.append(self.followers.found(workflow, name, validator, metadata))

    @override
    def found(self) -> Sequence[FoundTask]:
        found, self._found = self._found, []
        return found

    @override
    def check_options(self, options: Mapping[str, Any], where: str) -> None:
        check_options(options, where)

    @override
    def name_of(self, thing: object) -> str | None:
        return thing.name.removeprefix(self._hatchet.namespace) if isinstance(thing, BaseWorkflow) else None

    # ---------------------------------------------------------------------------------------------------------- workers

    @override
    def attach(self, host: Host) -> None:
        self.host = host

    @override
    def make_worker(self, *args: Any, **options: Any) -> Worker:
        return self._hatchet.worker(*args, **options)

    def lifespan(self, given: Callable[[], AsyncGenerator[Any, Any]] | None) -> Callable[[], AsyncGenerator[Any, Any]]:
        """Return a worker's lifespan: the user's own, between the start and the end of our lease and sweeper."""

        async def live() -> AsyncGenerator[Any, Any]:
            host = self.host
            if host is not None:
                await host.worker_started()
            inner = None if given is None else given()
            try:
                yield None if inner is None else await anext(inner, None)
            finally:
                try:
                    if inner is not None:
                        await anext(inner, None)
                finally:
                    await self.followers.let_go()
                    if host is not None:
                        await host.worker_stopped()
                    await self.close()

        return live

    @override
    async def open(self, *, serve: int = 0) -> None:
        """Nothing: connections open with the first call, workers are Hatchet's own."""

    @override
    async def close(self) -> None:
        sender = self._senders.pop(asyncio.get_running_loop(), None)
        if sender is not None:
            await sender.close()
        if not self._senders and self._pool is not None:
            pool, self._pool = self._pool, None
            await asyncio.to_thread(pool.shutdown)

    # ----------------------------------------------------------------------------------------------------------- engine

    @property
    def _sender(self) -> Sender:
        loop = asyncio.get_running_loop()
        for gone in [other for other in self._senders if other.is_closed()]:
            del self._senders[gone]
        sender = self._senders.get(loop)
        if sender is None:
            sender = self._senders[loop] = Sender(self._hatchet.config)
        return sender

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        answers: dict[int, Submission] = {}
        requests: dict[int, Any] = {}
        apply_namespace = self._hatchet.config.apply_namespace
        names = [apply_namespace(dispatch.task.name, dispatch.options.get("namespace")) for dispatch in batch]
        unknown = await self._unknown(set(names))
        for index, (dispatch, name) in enumerate(zip(batch, names, strict=True)):
            request = request_of(dispatch, self.namespace, name)
            if isinstance(request, Refusal):
                answers[index] = Submission(verdict=Verdict.REFUSED, reason=request.reason)
            elif name in unknown:
                reason = f"no worker ever registered {dispatch.task.name!r} with Hatchet"
                answers[index] = Submission(verdict=Verdict.RETRY, reason=reason)
            else:
                requests[index] = request
        if requests:
            sent = await self._sender.submit(list(requests.values()))
            answers.update(zip(requests, sent, strict=True))
        return [answers[index] for index in range(len(batch))]

    async def _unknown(self, names: set[str]) -> set[str]:
        """Return the names that the engine does not know: it would give their runs an id and forget them."""
        unknown: set[str] = set()
        for name in names - self._known:
            try:
                found = await self._hatchet.workflows.aio_list(workflow_name=name, limit=100)
            except Exception as error:  # noqa: BLE001 - the sweeper finds runs that never were, too
                logger.info("whether Hatchet knows %r cannot be asked: %r", name, error)
                continue
            if any(row.name == name for row in found.rows or ()):
                self._known.add(name)
            else:
                unknown.add(name)
        return unknown

    async def ask(self, run: str) -> tuple[Finding, bool]:
        """Return what became of a run, and whether it waits without a worker."""
        asked = await self._sender.ask(run)
        return asked.finding, asked.evicted

    async def cancel(self, run: str) -> None:
        """Cancel a run, as far as the engine can be reached."""
        await self._sender.cancel([run])

    @override
    async def probe(self, runs: Sequence[ManagerRun]) -> Sequence[Finding]:
        findings: list[Finding] = []
        for start in range(0, len(runs), _ASKED_AT_ONCE):
            page = runs[start : start + _ASKED_AT_ONCE]
            answers = await asyncio.gather(*(self._sender.ask(run.manager_run) for run in page))
            findings.extend([await self._judged(run, asked) for run, asked in zip(page, answers, strict=True)])
        return findings

    async def _judged(self, run: ManagerRun, asked: Asked) -> Finding:
        """Judge a run of which no code has begun.

        Time that was up before any code began went by on a broken connection to the worker, and so did what the engine
        could not hand over. A run of several tasks may be served without MageFlow.
        """
        finding, state = asked.finding, asked.finding.state
        if state is RunState.CANCELED and run.age >= asked.patience - 1:
            return Finding(state=await self._state_of_canceled(run))
        if state is RunState.UNKNOWN or (state is RunState.RUNNING and asked.of_workflow):
            return Finding(state=RunState.QUEUED)
        if state is RunState.FAILED and not asked.of_workflow and any(text in finding.reason for text in _LOST):
            return replace(finding, state=RunState.LOST)
        return finding

    async def _state_of_canceled(self, run: ManagerRun) -> RunState:
        """Tell a cancel by a user from one by the engine, because no worker took the run: its pages show a failure."""
        try:
            status = await self._hatchet.runs.aio_get_status(run.manager_run)
        except Exception as error:  # noqa: BLE001 - it is asked again later
            logger.info("what became of run %s cannot be asked: %r", run.manager_run, error)
            return RunState.QUEUED
        return _SHOWN.get(status, RunState.QUEUED)

    @override
    async def interrupt(self, runs: Sequence[ManagerRun]) -> None:
        await self._sender.cancel([run.manager_run for run in runs if run.manager_run])


def _keep_schema(task: BaseWorkflow[Any], validator: Any) -> None:
    """Let the engine know the JSON schema of the message, which the lenient validator hides from Hatchet's client."""
    if validator is None:
        return
    describe = task.to_proto

    def to_proto() -> Any:
        proto = describe()
        proto.input_json_schema = json.dumps(TypeAdapter(validator).json_schema()).encode()
        return proto

    task.to_proto = to_proto
