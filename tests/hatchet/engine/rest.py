"""The part of the REST API that the client needs: cancel, replay, details, listings, the pause of a worker."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.hatchet.engine.core import Engine
from tests.hatchet.engine.crons import Cron
from tests.hatchet.engine.values import TENANT, Status, TaskRun, WorkflowRun

Restart = Callable[[float], Awaitable[None]]


def make_application(engine: Engine, restart: Restart) -> web.Application:
    """Return the application; `POST /control/restart?down=1.5` closes the engine for so many seconds."""
    rest = _Rest(engine, restart)
    application = web.Application()
    tenant = "/api/v1/stable/tenants/{tenant}"
    application.add_routes(
        [
            web.post(tenant + "/tasks/cancel", rest.cancel),
            web.post(tenant + "/tasks/replay", rest.replay),
            web.get(tenant + "/workflow-runs", rest.list_runs),
            web.get("/api/v1/stable/workflow-runs/{run}", rest.run),
            web.get("/api/v1/stable/workflow-runs/{run}/status", rest.status),
            web.get("/api/v1/stable/tasks/{task}", rest.task),
            web.get("/api/v1/tenants/{tenant}/workflows", rest.list_workflows),
            web.post("/api/v1/tenants/{tenant}/workflows/{workflow}/crons", rest.create_cron),
            web.get("/api/v1/tenants/{tenant}/workflows/crons", rest.list_crons),
            web.get("/api/v1/tenants/{tenant}/workflows/crons/{cron}", rest.cron),
            web.delete("/api/v1/tenants/{tenant}/workflows/crons/{cron}", rest.delete_cron),
            web.get("/api/v1/tenants/{tenant}/worker", rest.list_workers),
            web.patch("/api/v1/workers/{worker}", rest.pause),
            web.post("/control/restart", rest.restart),
        ]
    )
    return application


class _Rest:
    def __init__(self, engine: Engine, restart: Restart) -> None:
        self._engine = engine
        self._restart = restart

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel by ids, or what a filter finds."""
        asked = await request.json()
        ids = asked.get("externalIds") or [run.id for run in self._found(asked.get("filter") or {})]
        return web.json_response({"ids": self._engine.cancel(ids)})

    async def replay(self, request: web.Request) -> web.Response:
        """Run again by ids, or what a filter finds."""
        asked = await request.json()
        ids = asked.get("externalIds") or [run.id for run in self._found(asked.get("filter") or {})]
        self._engine.replay(ids)
        return web.json_response({"ids": ids})

    def _found(self, query: dict[str, Any]) -> list[WorkflowRun]:
        wanted = [pair.partition(":")[::2] for pair in query.get("additionalMetadata") or ()]
        statuses = set[str](query.get("statuses") or ())
        workflows = set[str](query.get("workflowIds") or ())
        return [
            run
            for run in self._engine.runs.values()
            if (not statuses or run.status.value in statuses)
            and (not workflows or run.spec.id in workflows)
            and all(str(_metadata(run).get(key)) == value for key, value in wanted)
        ]

    async def list_runs(self, request: web.Request) -> web.Response:
        """List runs, or the runs of their tasks, all on one page."""
        lists = {name: request.query.getall(f"{_snake(name)}", []) for name in _LISTS}
        runs = self._found(lists)
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 1000))
        of_tasks = request.query.get("only_tasks", "").lower() == "true"
        rows = [row for run in runs for row in (map(_summary, run.tasks.values()) if of_tasks else [_row(run)])]
        page = rows[offset : offset + limit]
        return web.json_response({"pagination": {"current_page": 1, "num_pages": 1}, "rows": page})

    async def run(self, request: web.Request) -> web.Response:
        """Return a run."""
        run = self._engine.runs.get(request.match_info["run"])
        if run is None:
            raise web.HTTPNotFound
        outputs: dict[str, Any] = {name: json.loads(task.output) for name, task in run.tasks.items() if task.output}
        single = len(run.tasks) == 1
        details: dict[str, Any] = {
            **_common(run),
            "status": _status(run),
            "input": run.input,
            "output": (list(outputs.values()) or [{}])[0] if single else outputs,
            "createdAt": _time(run.created),
        }
        if run.finished is not None:
            details["finishedAt"] = _time(run.finished)
        tasks = [_summary(task) for task in run.tasks.values()]
        return web.json_response({"run": details, "taskEvents": [], "shape": [], "tasks": tasks})

    async def status(self, request: web.Request) -> web.Response:
        """Return a run's status."""
        run = self._engine.runs.get(request.match_info["run"])
        if run is None:
            raise web.HTTPNotFound
        return web.json_response(_status(run))

    async def task(self, request: web.Request) -> web.Response:
        """Return the run of a task."""
        task = self._engine.tasks.get(request.match_info["task"])
        if task is None:
            raise web.HTTPNotFound
        return web.json_response(_summary(task))

    async def list_workflows(self, request: web.Request) -> web.Response:
        """List workflows whose name contains a text."""
        name = request.query.get("name", "")
        rows = [
            {"metadata": _meta(spec.id), "name": spec.name, "tenantId": TENANT}
            for spec in self._engine.workflows.values()
            if name in spec.name
        ]
        return web.json_response({"metadata": _meta(TENANT), "rows": rows, "pagination": {}})

    async def create_cron(self, request: web.Request) -> web.Response:
        """Create a cron of a workflow, whose input and metadata are its own."""
        asked, workflow = await request.json(), request.match_info["workflow"]
        if workflow not in self._engine.workflows:
            raise web.HTTPBadRequest
        cron = self._engine.crons.add(
            workflow,
            asked["cronExpression"],
            asked["cronName"],
            input_json=json.dumps(asked["input"]),
            metadata=asked["additionalMetadata"],
            priority=asked.get("priority"),
            of_version=False,
        )
        return web.json_response(self._shown(cron))

    async def list_crons(self, request: web.Request) -> web.Response:
        """List crons."""
        rows = [self._shown(cron) for cron in self._engine.crons.all.values()]
        return web.json_response({"rows": rows, "pagination": {}})

    async def cron(self, request: web.Request) -> web.Response:
        """Return a cron."""
        return web.json_response(self._shown(self._cron(request)))

    async def delete_cron(self, request: web.Request) -> web.Response:
        """Delete a cron."""
        del self._engine.crons.all[self._cron(request).id]
        return web.Response(status=204)

    def _cron(self, request: web.Request) -> Cron:
        cron = self._engine.crons.all.get(request.match_info["cron"])
        if cron is None:
            raise web.HTTPNotFound
        return cron

    def _shown(self, cron: Cron) -> dict[str, Any]:
        spec = self._engine.workflows[cron.workflow]
        shown: dict[str, Any] = {
            "metadata": _meta(cron.id),
            "tenantId": TENANT,
            "workflowVersionId": spec.version,
            "workflowId": spec.id,
            "workflowName": cron.workflow,
            "cron": cron.expression,
            "name": cron.name,
            "input": json.loads(cron.input_json or "{}"),
            "additionalMetadata": cron.metadata,
            "enabled": True,
            "method": "DEFAULT" if cron.of_version else "API",
        }
        return shown if cron.priority is None else {**shown, "priority": cron.priority}

    async def list_workers(self, request: web.Request) -> web.Response:
        """List workers."""
        rows = [
            {
                "metadata": _meta(worker.id),
                "name": worker.name,
                "type": "SELFHOSTED",
                "status": "ACTIVE" if self._engine.is_active(worker) else "INACTIVE",
                "actions": sorted(worker.actions),
            }
            for worker in self._engine.workers.values()
        ]
        return web.json_response({"rows": rows, "pagination": {}})

    async def pause(self, request: web.Request) -> web.Response:
        """Pause a worker, or let it go on."""
        worker = self._engine.workers.get(request.match_info["worker"])
        if worker is None:
            raise web.HTTPNotFound
        worker.paused = bool((await request.json()).get("isPaused"))
        self._engine.wake_up()
        return web.json_response({"metadata": _meta(worker.id), "name": worker.name, "type": "SELFHOSTED"})

    async def restart(self, request: web.Request) -> web.Response:
        """Close the engine's gRPC side, open it again."""
        await self._restart(float(request.query.get("down", 1.0)))
        return web.json_response({})


_LISTS = ("additionalMetadata", "statuses", "workflowIds")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _metadata(run: WorkflowRun) -> dict[str, Any]:
    return json.loads(run.metadata) if run.metadata else {}


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _meta(identifier: str) -> dict[str, str]:
    now = _time(datetime.now(UTC))
    return {"id": identifier, "createdAt": now, "updatedAt": now}


def _common(run: WorkflowRun) -> dict[str, Any]:
    return {
        "metadata": _meta(run.id),
        "tenantId": TENANT,
        "additionalMetadata": _metadata(run),
        "displayName": f"{run.spec.name}-{run.created:%s}",
        "workflowId": run.spec.id,
        "workflowVersionId": run.spec.version,
    }


def _status(run: WorkflowRun) -> str:
    unscheduled = any(task.unscheduled for task in run.tasks.values())
    return (Status.FAILED if unscheduled else run.status).value


def _status_of_task(task: TaskRun) -> str:
    if task.unscheduled:
        return Status.FAILED.value
    return (Status.RUNNING if task.status is Status.EVICTED else task.status).value


def _row(run: WorkflowRun) -> dict[str, Any]:
    """Return a run as a listing shows it; one of several tasks is a row of its own kind."""
    rows = [_summary(task) for task in run.tasks.values()]
    if len(run.spec.tasks) == 1:
        return rows[0]
    outputs = {name: row["output"] for name, row in zip(run.tasks, rows, strict=True)}
    whole = {"type": "DAG", "taskExternalId": run.id, "status": _status(run), "output": outputs}
    return {**rows[0], **whole}


def _summary(task: TaskRun) -> dict[str, Any]:
    run = task.run
    summary: dict[str, Any] = {
        **_common(run),
        "actionId": task.spec.action,
        "retryCount": task.retry_count,
        "attempt": task.retry_count + 1,
        "createdAt": _time(run.created),
        "input": {"input": run.input, "parents": {}, "triggered_by": "manual"},
        "output": json.loads(task.output) if task.output else {},
        "numSpawnedChildren": 0,
        "status": _status_of_task(task),
        "taskExternalId": task.id,
        "taskId": task.number,
        "taskInsertedAt": _time(run.created),
        "type": "TASK",
        "workflowName": run.spec.name,
        "workflowRunExternalId": run.id,
        "errorMessage": task.error,
    }
    if run.parent:
        summary["parentTaskExternalId"] = run.parent
    return summary
