"""A user's function as it is called: what it takes, what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import PydanticUndefined

from mageflow.errors import InvalidMessageError
from mageflow.flow.choice import Tell, discriminator_of
from mageflow.flow.message import ERROR_FIELD, EVERYTHING, RESULT_FIELD, injection_of
from mageflow.flow.payload import Injection, Json
from mageflow.flow.signature import Persisted
from mageflow.run.behaviour import PLAIN, Behaviour, signature_parameter

WHOLE_MESSAGE = ("msg", "message")
"""Names of a single parameter without an annotation, or of `Any`, that takes the whole message as a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A function with its message model.

    `whole`: the model is one argument, the first or the one that `argument` names; else its fields are passed by name.
    `made`: the dataclass that the argument is, for whose fields the model stands.
    `model` is `None` where any mapping is taken. `signature` is the parameter that takes the task's own signature,
    `limit` the seconds that it has after a random delay, where both are set.
    """

    name: str
    function: Callable[..., Any]
    model: type[BaseModel] | None
    whole: bool
    argument: str | None
    returns: TypeAdapter[Any] | None
    made: Callable[..., Any] | None = None
    tell: Tell | None = None
    behaviour: Behaviour
    signature: str | None = None
    limit: float | None = None

    @property
    def injection(self) -> Injection:
        """Where return values and errors go."""
        return EVERYTHING if self.model is None else injection_of(self.model)

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of the message."""
        return None if self.model is None else self.model.model_json_schema()

    def arguments(self, message: Json) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and named arguments for a message.

        Raises:
            InvalidMessageError: it does not fit the model.
        """
        valid = None if self.model is None else validated(self.model, message, self.name)
        whole: Any = message if valid is None else valid
        if valid is not None and (self.made is not None or not self.whole):
            named = {field: getattr(valid, field) for field in type(valid).model_fields} | (valid.model_extra or {})
            if self.made is None:
                return (), named
            whole = self.made(**named)
        return ((whole,), {}) if self.argument is None else ((), {self.argument: whole})

    def output(self, value: Any) -> Any:
        """Return a result checked against the return annotation.

        Raises:
            InvalidMessageError: it does not fit.
        """
        if self.returns is None:
            return value
        try:
            return self.returns.validate_python(value)
        except ValidationError as error:
            raise InvalidMessageError(f"{self.name} (its result)", problems_of(error)) from error


def problems_of(error: ValidationError) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    return [(".".join(map(str, item["loc"])) or "(whole)", item["msg"]) for item in error.errors(include_url=False)]


def validated(model: type[BaseModel], message: object, task_name: str) -> BaseModel:
    """Return a message as its model.

    Raises:
        InvalidMessageError: it does not fit; names the fields.
    """
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise InvalidMessageError(task_name, problems_of(error)) from error


def check_arguments(model: type[BaseModel], arguments: Mapping[str, Any], task_name: str) -> None:
    """Refuse bound arguments of a wrong type; missing ones may still come.

    Raises:
        InvalidMessageError: names the fields.
    """
    try:
        model.model_validate(dict(arguments))
    except ValidationError as error:
        wrong = [item for item in error.errors(include_url=False) if item["type"] != "missing"]
        problems = [(".".join(map(str, item["loc"])), item["msg"]) for item in wrong if item["loc"]]
        if problems:
            raise InvalidMessageError(task_name, problems) from error


def bind(
    name: str,
    function: Callable[..., Any],
    input_validator: Any = None,
    skip: tuple[str, ...] = (),
    *,
    behaviour: Behaviour = PLAIN,
    limit: float | None = None,
) -> Binding:
    """Read a function's signature once; parameters in `skip` are filled by the task manager.

    Raises:
        DefinitionError: it asks for its signature and has no parameter for it.
    """
    hints = _hints(function)
    signature = signature_parameter(function, name) if behaviour.signature else None
    filled = {*skip, signature}
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in filled]
    first = parameters[0].name if parameters else None
    returned = _values_of(hints.get("return", inspect.Signature.empty))
    annotation = input_validator if input_validator is not None else hints.get(first or "", None)
    made: Any = input_validator if is_dataclass(input_validator) else None
    if first is not None and _is_model(annotation):
        model, whole = cast("type[BaseModel]", annotation), True
    elif first is not None and made is not None:
        model, whole = _model_of_dataclass(made), True
    elif len(parameters) == 1 and _takes_whole(parameters[0], annotation):
        model, whole = None, True
    else:
        model, whole = _model_of_parameters(name, parameters, hints), False
    leads = first is None or next(iter(inspect.signature(function).parameters)) == first
    return Binding(
        name=name,
        function=function,
        model=model,
        whole=whole,
        argument=None if leads or not whole else first,
        returns=_adapter(returned),
        made=made,
        tell=discriminator_of(returned),
        behaviour=behaviour,
        signature=signature,
        limit=limit if behaviour.stagger else None,
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:
        return {}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _takes_whole(parameter: inspect.Parameter, annotation: Any) -> bool:
    """Whether the only parameter is the message itself, not a field of it."""
    if parameter.name in (RESULT_FIELD, ERROR_FIELD) or hasattr(annotation, "__metadata__"):
        return False
    return _is_mapping(annotation) or (annotation in (None, Any) and parameter.name in WHOLE_MESSAGE)


def _model_of_parameters(name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    extra = "ignore"
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    config = ConfigDict(extra="allow" if extra == "allow" else "ignore", arbitrary_types_allowed=True)
    return create_model(f"{name} arguments", __config__=config, **fields)


def _model_of_dataclass(made: Any) -> type[BaseModel]:
    """Return a model with the fields that make a dataclass."""
    hints = get_type_hints(made, include_extras=True)
    values: dict[str, Any] = {}
    for field in fields(made):
        if field.init and field.default_factory is not MISSING:
            values[field.name] = (hints[field.name], Field(default_factory=field.default_factory))
        elif field.init:
            values[field.name] = (hints[field.name], PydanticUndefined if field.default is MISSING else field.default)
    return create_model(made.__name__, __config__=ConfigDict(arbitrary_types_allowed=True), **values)


def _values_of(annotation: Any) -> Any:
    """Return the annotation of results, without the signatures that may replace the task."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    parts = [part for part in get_args(annotation) if not _is_signature(part)]
    return Union[tuple(parts)] if parts else inspect.Signature.empty  # noqa: UP007 - of as many as there are


def _is_signature(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Persisted)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation in (inspect.Signature.empty, Any):
        return None
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return None
