"""Helpers."""

from importlib.util import find_spec
from typing import Final, TypeAlias, TypeVar

from mageflow.flow.payload import merge as deep_merge
from thirdmagic._gone import Gone
from thirdmagic.message import DEFAULT_RESULT_NAME, ReturnValueAnnotation

HAS_HATCHET: Final = find_spec("hatchet_sdk") is not None
HatchetTaskType: TypeAlias = object
PropType = TypeVar("PropType")

get_marked_fields = Gone("get_marked_fields", "MageFlow reads the marks of a model itself")
return_value_field = Gone("return_value_field", "MageFlow reads the marks of a model itself")

__all__ = [
    "DEFAULT_RESULT_NAME",
    "HAS_HATCHET",
    "HatchetTaskType",
    "PropType",
    "ReturnValueAnnotation",
    "deep_merge",
    "get_marked_fields",
    "return_value_field",
]
