"""What type checkers know of signing and mapping: a typed task gives signatures of its message and its result."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeAlias, TypeVar, cast, overload

from pydantic import BaseModel

from mageflow.signature import TaskSignature
from mageflow.swarm import MapSignature

if TYPE_CHECKING:
    from hatchet_sdk.runnables.workflow import Standalone  # pyright: ignore[reportMissingTypeStubs] - a folder that is no package

T = TypeVar("T")
Awaits: TypeAlias = Coroutine[Any, Any, T]
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


class Sign(Protocol):
    """`asign`, of a client and of the module; the reserved keywords are those of the last form."""

    @overload
    def __call__(self, task: Standalone[M, R], /, **options: Any) -> Awaits[TaskSignature[M, R]]: ...  # pyright: ignore[reportInvalidTypeArguments] - here a result may be anything
    @overload
    def __call__(
        self, task: Callable[Concatenate[M, ...], Awaits[R] | R], /, **options: Any
    ) -> Awaits[TaskSignature[M, R]]: ...
    @overload
    def __call__(self, task: Callable[..., Awaits[R] | R], /, **options: Any) -> Awaits[TaskSignature[Any, R]]: ...  # pyright: ignore[reportOverlappingOverload] - for first parameters that are no model
    @overload
    def __call__(
        self,
        task: object = None,
        /,
        *,
        task_name: str | None = None,
        task_identifiers: Mapping[str, Any] | None = None,
        success_callbacks: object = None,
        error_callbacks: object = None,
        model_validators: type[BaseModel] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        **bound: Any,
    ) -> Awaits[TaskSignature[Any, Any]]: ...


def signing(function: Callable[..., Awaits[TaskSignature[Any, Any]]]) -> Sign:
    """Let type checkers take a function for `Sign`."""
    return cast("Sign", function)


Items: TypeAlias = Iterable[object] | AsyncIterable[object] | None


class Map(Protocol):
    """`amap`, of a client and of the module; the options are those of `Verbs.amap`."""

    @overload
    def __call__(self, task: Standalone[M, R], items: Items = None, **options: Any) -> Awaits[MapSignature[Any, R]]: ...  # pyright: ignore[reportInvalidTypeArguments] - here a result may be anything
    @overload
    def __call__(
        self, task: TaskSignature[Any, R], items: Items = None, **options: Any
    ) -> Awaits[MapSignature[Any, R]]: ...
    @overload
    def __call__(
        self, task: Callable[..., Awaits[R] | R], items: Items = None, **options: Any
    ) -> Awaits[MapSignature[Any, R]]: ...
    @overload
    def __call__(self, task: object, items: Items = None, **options: Any) -> Awaits[MapSignature[Any, Any]]: ...


def mapping(function: Callable[..., Awaits[MapSignature[Any, Any]]]) -> Map:
    """Let type checkers take a function for `Map`."""
    return cast("Map", function)
