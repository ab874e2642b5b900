"""Making task signatures."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from mageflow import sign
from thirdmagic._gone import Gone
from thirdmagic.signature import Signature
from thirdmagic.signature.retry_cache import cache_signature, get_cached_signature
from thirdmagic.signature.status import TaskStatus
from thirdmagic.task.model import TaskSignature
from thirdmagic.typing_support import Unpack
from thirdmagic.utils import HatchetTaskType

TaskSignatureConvertible: TypeAlias = str | Signature[Any, Any] | HatchetTaskType


class TaskSignatureOptions(TypedDict, total=False):
    """Keywords of `sign` that are not bound arguments."""

    kwargs: Mapping[str, Any]
    model_validators: Any
    success_callbacks: Sequence[TaskSignatureConvertible]
    error_callbacks: Sequence[TaskSignatureConvertible]


_INSTEAD = (
    "lists take signatures, keys, names and functions alike; sign() makes a signature, load_signature() finds one"
)
resolve_signature = Gone("resolve_signature", _INSTEAD)
resolve_signatures = Gone("resolve_signatures", _INSTEAD)

__all__ = [
    "HatchetTaskType",
    "Signature",
    "TaskSignature",
    "TaskSignatureConvertible",
    "TaskSignatureOptions",
    "TaskStatus",
    "Unpack",
    "cache_signature",
    "get_cached_signature",
    "resolve_signature",
    "resolve_signatures",
    "sign",
]
