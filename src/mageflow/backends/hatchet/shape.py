"""How a user's function is called: what of its parameters is the message, the context, a dependency."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, cast, get_origin, get_type_hints

from hatchet_sdk import Context, Depends, DurableContext, EmptyModel, Hatchet
from pydantic import BaseModel, ValidationError, WrapValidator

from mageflow.backends.hatchet.wire import KEY, exact_fields
from mageflow.config import AcceptParams

_CONTEXT_NAMES = ("ctx", "context", "_ctx", "_context")
raw_input: ContextVar[Mapping[str, Any] | None] = ContextVar("mageflow_hatchet_input", default=None)
"""The input of the run as it was sent, with the numbers that the engine changes."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """Stands for an input that does not fit the task's model, so that the run reaches our code all the same."""

    error: ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parameters of a function.

    `message`: its first parameter where that takes the whole message; `context`: the one that takes Hatchet's context.
    """

    parameters: tuple[inspect.Parameter, ...]
    hints: dict[str, Any]
    context: str | None
    dependencies: tuple[str, ...]

    @property
    def filled(self) -> tuple[str, ...]:
        """The parameters that Hatchet fills."""
        return self.dependencies if self.context is None else (self.context, *self.dependencies)

    @property
    def first(self) -> inspect.Parameter | None:
        """The parameter that may take the message."""
        rest = [parameter for parameter in self.parameters if parameter.name not in self.filled]
        return rest[0] if rest else None


def shape_of(function: Callable[..., Any], param_config: AcceptParams) -> Shape:
    """Read the parameters of a function."""
    parameters = tuple(inspect.signature(function).parameters.values())
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError:
        hints = {}
    dependencies = tuple(p.name for p in parameters if _is_dependency(hints.get(p.name, p.annotation)))
    context = None
    if len(parameters) > 1 and parameters[1].name not in dependencies:
        second = parameters[1]
        asked = param_config in {AcceptParams.CTX_ONLY, AcceptParams.ALL} and second.default is second.empty
        if asked or _is_context(second, hints.get(second.name)):
            context = second.name
    return Shape(parameters=parameters, hints=hints, context=context, dependencies=dependencies)


def _is_dependency(annotation: Any) -> bool:
    return any(isinstance(item, Depends) for item in getattr(annotation, "__metadata__", ()))


def _is_context(parameter: inspect.Parameter, annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, (Context, DurableContext)):
        return True
    return annotation is None and parameter.name in _CONTEXT_NAMES


def validator_of(shape: Shape, given: Any) -> Any:
    """Return the type of the message as Hatchet is to know it; `None`: a model that takes anything."""
    if given is not None:
        return given
    annotation = None if shape.first is None else shape.hints.get(shape.first.name)
    kind = get_origin(annotation) or annotation
    return annotation if isinstance(kind, type) and issubclass(kind, (BaseModel, Mapping)) else None


def lenient(hatchet: Hatchet, validator: Any) -> Any:
    """Return a validator that lets a flow's run begin with an input that does not fit: our code reports it.

    Hatchet keeps to the validator where a run is of no flow.
    """

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        if not isinstance(value, Mapping):
            return handler(value)
        context = hatchet.current_context
        if context is None or KEY not in context.additional_metadata:
            return handler(value)
        given = {**cast("Mapping[str, Any]", value), **exact_fields(context.additional_metadata)}
        raw_input.set(given)
        try:
            return handler(given)
        except ValidationError as error:
            return Invalid(error)

    return Annotated[EmptyModel if validator is None else validator, WrapValidator(validate)]


def plain_arguments(shape: Shape, validator: Any, message: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call outside a flow: the message, or its fields where the function names them."""
    rest = [parameter for parameter in shape.parameters if parameter.name not in shape.filled]
    if not rest:
        return (), {}
    unannotated = rest[0].name not in shape.hints
    if validator is not None or (unannotated and len(rest) == 1):
        return (message,), {}
    fields: dict[str, Any] = {**dict(message), **(message.model_extra or {})}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in rest)
    names = {parameter.name for parameter in rest}
    return (), {name: value for name, value in fields.items() if open_ended or name in names}
