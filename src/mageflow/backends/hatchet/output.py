"""Results as Hatchet takes them: mappings, models and dataclasses; any other value is put into a mapping."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Union, cast, get_args, get_origin, is_typeddict

from hatchet_sdk import EmptyModel
from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from mageflow.backends.hatchet.wire import MAX_PAYLOAD, NOTE, VALUE, has_null


def output_type(annotation: Any) -> Any:
    """Return the type of what Hatchet gets from a function with this return annotation."""
    return annotation if _is_native(annotation) else dict[str, Any]


def _is_native(annotation: Any) -> bool:
    """Whether Hatchet takes values of a type as they are."""
    if annotation is None or annotation is types.NoneType or is_typeddict(annotation):
        return True
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return all(_is_native(part) for part in get_args(annotation))
    return isinstance(origin, type) and (issubclass(origin, (BaseModel, Mapping)) or is_dataclass(cast("Any", origin)))


def as_output(value: Any, annotation: Any) -> Any:
    """Return a value as Hatchet takes it, for a function with this return annotation."""
    unannotated = annotation is None or annotation is types.NoneType
    if value is None or (not unannotated and _is_native(annotation)):
        return value
    if isinstance(value, BaseModel) or is_dataclass(value):
        value = to_jsonable_python(value)
    if not isinstance(value, dict):
        value = {VALUE: value}
    return EmptyModel.model_validate(value) if unannotated else cast("object", value)


def shown(value: Any, annotation: Any) -> Any:
    """Return the result of a flow's task as Hatchet's pages show it: what its engine cannot hold is left out."""
    data = to_json(value)
    if len(data) > MAX_PAYLOAD or has_null(data):
        return EmptyModel.model_validate({NOTE: "the flow has the result; Hatchet cannot hold it (4 MiB, no \\u0000)"})
    return as_output(value, annotation)
