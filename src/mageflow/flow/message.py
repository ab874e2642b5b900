"""Marks in input models: where a return value and an error go."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mageflow.flow.payload import Injection

T = TypeVar("T")
RESULT_FIELD: Final = "mageflow_results"
ERROR_FIELD: Final = "mageflow_error"


class ReturnMark:
    """Marks the field that takes the return value of the signature before."""


RETURN_MARK: Final = ReturnMark()
ReturnValue = Annotated[T, RETURN_MARK]
"""`ReturnValue[T]`: a field that takes the return value of the signature before, of type `T`."""


class ErrorValue(BaseModel):
    """What an error callback gets to know of the failure.

    Args:
        type: class name of the error; `Canceled` for a cancel.
        message: its text.
        traceback: as Python prints it.
        task_name: of the signature that failed: whose error callback it is.
        key: of the same.
        failed_task_name: where that is a container, of the task whose error made it fail: a step of a chain, a member
            of a swarm; else the same.
        failed_key: likewise.
    """

    type: str
    message: str
    traceback: str
    task_name: str
    key: str
    failed_task_name: str = ""
    failed_key: str = ""


def _marked(field: FieldInfo) -> bool:
    if any(isinstance(mark, ReturnMark) for mark in field.metadata):
        return True
    return any(_holds(part, ReturnMark) for part in get_args(field.annotation))


def _holds(annotation: Any, mark: type) -> bool:
    return any(isinstance(part, mark) for part in getattr(annotation, "__metadata__", ()))


def _takes_error(field: FieldInfo) -> bool:
    return ErrorValue in (field.annotation, *get_args(field.annotation))


def _wire_name(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else field.alias or name


def injection_of(model: type[BaseModel]) -> Injection:
    """Return the fields of a model that take a return value and an error: marked, named for it, or allowed as extra."""
    open_ended = model.model_config.get("extra") == "allow"
    result = next((_wire_name(n, f) for n, f in model.model_fields.items() if _marked(f)), None)
    error = next((_wire_name(n, f) for n, f in model.model_fields.items() if _takes_error(f)), None)
    if result is None and (open_ended or RESULT_FIELD in model.model_fields):
        result = RESULT_FIELD
    if error is None and (open_ended or ERROR_FIELD in model.model_fields):
        error = ERROR_FIELD
    return Injection(result_field=result, error_field=error)


EVERYTHING: Final = Injection(result_field=RESULT_FIELD, error_field=ERROR_FIELD)
"""For tasks that take any mapping."""
