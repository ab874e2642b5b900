"""What type checkers take `Mageflow(...)` for: a client with the attributes and decorators of the one that it wraps.

Nothing imports this at run time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from hatchet_sdk import EmptyModel, Hatchet, Worker
from hatchet_sdk.runnables.workflow import BaseWorkflow, Standalone  # pyright: ignore[reportMissingTypeStubs] - a folder that is no package
from pydantic import BaseModel
from taskiq import AsyncBroker
from taskiq.decor import AsyncTaskiqDecoratedTask

from mageflow.client import Mageflow
from mageflow.typed import Awaits

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")
R = TypeVar("R")


class _MakesTaskiqTask(Protocol):
    @overload
    def __call__(self, name: Callable[P, R], /) -> AsyncTaskiqDecoratedTask[P, R]: ...
    @overload
    def __call__(
        self,
        name: str | None = None,
        *,
        input_validator: type[BaseModel] | None = None,
        retries: int = 0,
        execution_timeout: timedelta | float | str | None = None,
        **options: Any,
    ) -> Callable[[Callable[P, R]], AsyncTaskiqDecoratedTask[P, R]]: ...


class TaskiqMageflow(Mageflow, AsyncBroker):
    """A client on a broker of TaskIQ, or on the embedded default, which is one."""

    task: _MakesTaskiqTask  # pyright: ignore[reportIncompatibleMethodOverride] - both in one
    durable_task: _MakesTaskiqTask  # pyright: ignore[reportIncompatibleMethodOverride] - both in one


class _HatchetDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[M, ...], Awaits[R] | R], /) -> Standalone[M, R]: ...  # pyright: ignore[reportInvalidTypeArguments] - MageFlow wraps what is no mapping
    @overload
    def __call__(self, function: Callable[..., Awaits[R] | R], /) -> Standalone[EmptyModel, R]: ...  # pyright: ignore[reportInvalidTypeArguments, reportOverlappingOverload] - as above; for first parameters that are no model


class _MakesHatchetTask(Protocol):
    def __call__(
        self,
        name: str | None = None,
        *,
        input_validator: type[Any] | None = None,
        retries: int = 0,
        execution_timeout: timedelta | float | str | None = None,
        **options: Any,
    ) -> _HatchetDecorator: ...


class _MakesHatchetWorker(Protocol):
    def __call__(  # noqa: PLR0917 - Hatchet's own
        self,
        name: str,
        slots: int | None = None,
        durable_slots: int | None = None,
        labels: dict[str, str | int] | None = None,
        workflows: Sequence[BaseWorkflow[Any]] | None = None,
        lifespan: Callable[[], AsyncGenerator[Any, Any]] | None = None,
    ) -> Worker: ...


class HatchetMageflow(Mageflow, Hatchet):  # pyright: ignore[reportIncompatibleVariableOverride] - config is MageFlow's
    """A client on Hatchet."""

    task: _MakesHatchetTask  # pyright: ignore[reportIncompatibleMethodOverride] - both in one
    durable_task: _MakesHatchetTask  # pyright: ignore[reportIncompatibleMethodOverride] - both in one
    worker: _MakesHatchetWorker  # pyright: ignore[reportIncompatibleMethodOverride] - its workers are Hatchet's
