"""What is under test: the one value that whoever writes a backend makes for the suite."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig


def serve_here(client: Mageflow) -> AbstractAsyncContextManager[object]:
    """Run a worker of a client in this process while the context is open."""
    return client.worker()


def worker_command(make_client: str) -> Sequence[str]:
    """Return the command of a worker process for a task manager that has none of its own.

    Args:
        make_client: `module:function`, the function that the subject has as `make_client`.
    """
    return [sys.executable, "-m", "mageflow.testing.contracts.worker", make_client]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A task manager with its backend, as the suite uses it.

    Args:
        make_client: a new client with these settings. Clients of one namespace share their work, in whichever process
            they are; those of different namespaces know nothing of each other, at the task manager either.
        call: calls a task (what `client.task(...)` returned) with a model as its message, as one does without MageFlow,
            and returns the result, once it is there; raises when it failed. Takes client, task, message.
        worker: the command that starts a worker process. Its module makes the client by
            `mageflow.testing.contracts.worker_client(make_client)`; `worker_command` returns one that does. SIGTERM
            ends it gracefully. `None`: the task manager has no worker processes.
        environment: what worker processes find in their environment, beside that of the tests.
        serve: runs a worker of a client while a context is open; in this process, or wherever `worker_client` is used.
        restart: stops the task manager's server and starts it again; `None`: there is none, or it must not be stopped.
        context: the type of the context that functions get for `AcceptParams.CTX_ONLY`; `None`: there is none.
        delay_option: the option of a start that delays it by seconds; `None`: the task manager cannot.
        priority_option: the option of a start that takes a priority, a higher number first; `None`: it has none.
        slots: how many queued deliveries `serve` takes before it looks at priorities again, where that is not one.
        lasting_threads: names, or parts of them, of threads that the task manager's client keeps for the process,
            whatever is closed.
    """

    make_client: Callable[[MageflowConfig], Mageflow]
    call: Callable[[Mageflow, Any, BaseModel], Awaitable[Any]]
    worker: Sequence[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    serve: Callable[[Mageflow], AbstractAsyncContextManager[object]] = serve_here
    restart: Callable[[], Awaitable[None]] | None = None
    context: type[Any] | None = None
    delay_option: str | None = None
    priority_option: str | None = None
    slots: int = 0
    lasting_threads: Collection[str] = ()
