"""Workflows of several tasks as one signature: how a run ends is followed, for as long as it takes, by one worker.

Hatchet alone knows when such a run is over: its tasks are on any workers, some are skipped, some never begin. So the
first of them that begins takes the start for the signature, and its worker follows the run, beside its slots: what the
engine says in the end is the outcome. The others see that their run is the one that was started, and run.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import is_dataclass
from typing import Any, Protocol

from hatchet_sdk.runnables.workflow import Workflow  # pyright: ignore[reportMissingTypeStubs] - a folder that is no package

from mageflow.backends.base import Delivery, Execution, Finding, FoundTask, RunState
from mageflow.errors import RunFailedError
from mageflow.flow.ids import key_of
from mageflow.flow.task import TaskDefinition

_DECORATORS = ("task", "durable_task", "on_failure_task", "on_success_task")
_FIRST_LOOK = 0.05
_LONGEST_LOOK = 1.0
_followed: ContextVar[tuple[str, str]] = ContextVar("mageflow_hatchet_followed")
"""The run that is followed, and the key of its signature."""


class Engine(Protocol):
    """What following needs of the backend."""

    namespace: str

    async def ask(self, run: str) -> tuple[Finding, bool]:
        """Return what became of a run, and whether it waits without a worker."""
        ...

    async def cancel(self, run: str) -> None:
        """Cancel a run, as far as the engine can be reached."""
        ...


class _CanceledError(Exception):
    """Hatchet's user canceled the run."""


class _GoneError(Exception):
    """The engine has no outcome of the run."""


class Followers:
    """The runs that this process follows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._nudges: dict[str, asyncio.Event] = {}

    def found(self, workflow: Workflow[Any], name: str, validator: Any, metadata: Mapping[str, Any]) -> FoundTask:
        """Return a workflow as a task; its function is what follows a run."""

        async def follow(message: Any) -> Any:  # noqa: ARG001 - Hatchet has it: it is here to be checked
            return await self._follow(*_followed.get())

        # Fields of a dataclass are checked by the tasks.
        follow.__annotations__ = {} if validator is None or is_dataclass(validator) else {"message": validator}
        labels = {"workflow": True, **({"metadata": metadata} if metadata else {})}
        return FoundTask(task=workflow, function=follow, definition=TaskDefinition(name=name, labels=labels))

    def start(self, execution: Execution, delivery: Delivery, message: dict[str, Any]) -> None:
        """Follow the run of an accepted delivery."""
        run = delivery.manager_run
        driven = self._drive(execution, delivery, message)
        self._tasks[run] = asyncio.create_task(driven, name="mageflow-hatchet-follow", context=contextvars.Context())

    def nudge(self, run: str) -> None:
        """Look at a run at once, if it is followed here: a task of it ends."""
        if run in self._nudges:
            self._nudges[run].set()

    async def let_go(self) -> None:
        """Follow no more: this worker ends. Whoever begins the next task of a run, or the sweeper, goes on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, execution: Execution, delivery: Delivery, message: dict[str, Any]) -> None:
        run = delivery.manager_run
        _followed.set((run, key_of(self._engine.namespace, delivery.id)))
        try:
            await execution.call(message, {})
        except asyncio.CancelledError as error:
            await execution.retried(delivery.attempt, 0.0, error)
        except _CanceledError:
            await execution.canceled()
        except _GoneError:
            await execution.released()
        except Exception as error:  # noqa: BLE001 - it is the outcome
            await execution.ended(error)
            if not execution.overtaken:
                await self._engine.cancel(run)
        else:
            await execution.ended(None)
        finally:
            del self._tasks[run]

    async def _follow(self, run: str, key: str) -> Any:
        """Return the results of a run, by task, once all of them have ended."""
        nudge = self._nudges[run] = asyncio.Event()
        pause = _FIRST_LOOK
        try:
            while True:
                finding, _ = await self._engine.ask(run)
                match finding.state:
                    case RunState.DONE:
                        return finding.result
                    case RunState.FAILED:
                        raise RunFailedError(key, run, finding.reason)
                    case RunState.CANCELED:
                        raise _CanceledError
                    case RunState.GONE:
                        raise _GoneError
                    case _:
                        pass
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(nudge.wait(), pause)
                pause = _FIRST_LOOK if nudge.is_set() else min(pause * 1.5, _LONGEST_LOOK)
                nudge.clear()
        finally:
            del self._nudges[run]


def replace_decorators(
    workflow: Workflow[Any],
    wrapped: Callable[[Callable[..., Any], Mapping[str, Any]], Callable[..., Any]],
    completed: Callable[[Any, Callable[..., Any]], Any],
) -> None:
    """Let the decorators of a workflow wrap what they decorate, and complete the tasks that they make of it."""

    def replaced(name: str) -> Callable[..., Any]:
        original = getattr(workflow, name)

        def decorator(*args: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
            decorate = original(*args, **options)
            return lambda function: completed(decorate(wrapped(function, options)), function)

        return decorator

    for name in _DECORATORS:
        setattr(workflow, name, replaced(name))
