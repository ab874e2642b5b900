"""MageFlow: flows on the task manager that you already run.

Signatures with callbacks, chains, swarms; state in Redis or Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mageflow import errors
from mageflow.blocking import SyncVerbs
from mageflow.client import Mageflow
from mageflow.config import AcceptParams, MageflowConfig, PauseActionTypes, SwarmConfig, TTLConfig
from mageflow.dispatch.repair import Finding, Report
from mageflow.errors import MageflowError, NonRetryableError
from mageflow.flow.message import ErrorValue, ReturnValue
from mageflow.flow.status import Status
from mageflow.handle import FlowHandle
from mageflow.registry import find_client, handle_task_callback, register_task
from mageflow.signature import ChainSignature, Signature, SwitchSignature, TaskSignature
from mageflow.store.link import RedisSource
from mageflow.stream import ResultStream
from mageflow.swarm import MapSignature, SwarmSignature
from mageflow.typed import mapping, signing
from mageflow.views import Progress, Wait

__version__ = "0.1.0"


@signing
async def asign(task: object = None, /, **options: Any) -> TaskSignature[Any, Any]:
    """Create a task signature on the client of the running task, else the only one; see `Mageflow.asign`."""
    return await find_client().asign(task, **options)


async def achain(tasks: Iterable[object], name: str | None = None, **options: Any) -> ChainSignature[Any, Any]:
    """Create a chain; see `Mageflow.achain`."""
    return await find_client().achain(tasks, name, **options)


async def aswarm(
    tasks: Iterable[object] | None = None, task_name: str | None = None, **options: Any
) -> SwarmSignature[Any, list[Any]]:
    """Create a swarm; see `Mageflow.aswarm`."""
    return await find_client().aswarm(tasks, task_name, **options)


@mapping
async def amap(
    task: object, items: Iterable[object] | AsyncIterable[object] | None = None, **options: Any
) -> MapSignature[Any, Any]:
    """Create a map; see `Mageflow.amap`."""
    return await find_client().amap(task, items, **options)


async def aswitch(
    chooser: object, cases: Mapping[Any, object], default: object = None, **options: Any
) -> SwitchSignature[Any, Any]:
    """Create a switch; see `Mageflow.aswitch`."""
    return await find_client().aswitch(chooser, cases, default, **options)


def abounded_field(*, ignore_redis_error: bool = False) -> AbstractAsyncContextManager[None]:
    """Write what a block describes in one step at its exit; see `Mageflow.abounded_field`."""
    return find_client().abounded_field(ignore_redis_error=ignore_redis_error)


async def why(key: str) -> Wait | None:
    """Return the one thing that a signature waits on; see `Mageflow.why`."""
    return await find_client().why(key)


async def repair(*, apply: bool = False) -> Report:
    """Look through the namespace for what must not be there; see `Mageflow.repair`."""
    return await find_client().repair(apply=apply)


async def pause(key: str, type: PauseActionTypes | str = PauseActionTypes.SUSPEND) -> Status:  # noqa: A002 - the users' word
    """Suspend or interrupt the signature of a key; see `Mageflow.pause`."""
    return await find_client().pause(key, type)


async def resume(key: str) -> Status:
    """Let the signature of a key go on; see `Mageflow.resume`."""
    return await find_client().resume(key)


async def interrupt(key: str) -> Status:
    """Interrupt the signature of a key; see `Mageflow.interrupt`."""
    return await find_client().interrupt(key)


async def cancel(key: str) -> Status:
    """Cancel the signature of a key; see `Mageflow.cancel`."""
    return await find_client().cancel(key)


async def remove(key: str) -> None:
    """Cancel the signature of a key and delete it; see `Mageflow.remove`."""
    await find_client().remove(key)


async def load_signature(key: str) -> Signature[Any, Any] | None:
    """Return the signature of a key, or `None`; see `Mageflow.load_signature`."""
    return await find_client().load_signature(key)


async def start_mageflow(
    hatchet_client: object | None = None,
    redis_client: RedisSource | None = None,
    param_config: AcceptParams | None = None,
    config: MageflowConfig | None = None,
    *,
    client: object | None = None,
) -> Mageflow:
    """Return a started client, for processes that sign, start and steer; takes what `Mageflow` takes.

    Raises:
        StoreUnavailableError: Redis cannot be reached.
    """
    started = Mageflow(hatchet_client, redis_client, param_config, config, client=client)
    await started.startup()
    return started


sync = SyncVerbs(find_client)
"""The same functions for synchronous code: `mageflow.sync.asign(...)`; they block."""

sign = asign
chain = achain
swarm = aswarm
load_sign = load_signature
resume_task = resume

__all__ = [
    "AcceptParams",
    "ChainSignature",
    "ErrorValue",
    "Finding",
    "FlowHandle",
    "Mageflow",
    "MageflowConfig",
    "MageflowError",
    "MapSignature",
    "NonRetryableError",
    "PauseActionTypes",
    "Progress",
    "Report",
    "ResultStream",
    "ReturnValue",
    "Signature",
    "Status",
    "SwarmConfig",
    "SwarmSignature",
    "SwitchSignature",
    "TTLConfig",
    "TaskSignature",
    "Wait",
    "abounded_field",
    "achain",
    "amap",
    "asign",
    "aswarm",
    "aswitch",
    "cancel",
    "chain",
    "errors",
    "handle_task_callback",
    "interrupt",
    "load_sign",
    "load_signature",
    "pause",
    "register_task",
    "remove",
    "repair",
    "resume",
    "resume_task",
    "sign",
    "start_mageflow",
    "swarm",
    "sync",
    "why",
]
