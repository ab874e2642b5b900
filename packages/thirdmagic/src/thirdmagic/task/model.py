"""Task signatures."""

from mageflow import TaskSignature
from thirdmagic.errors import UnrecognizedTaskError
from thirdmagic.message import DEFAULT_RESULT_NAME
from thirdmagic.signature import Signature
from thirdmagic.signature.status import SignatureStatus
from thirdmagic.task_def import MageflowTaskDefinition
from thirdmagic.utils import HAS_HATCHET, HatchetTaskType, return_value_field

__all__ = [
    "DEFAULT_RESULT_NAME",
    "HAS_HATCHET",
    "HatchetTaskType",
    "MageflowTaskDefinition",
    "Signature",
    "SignatureStatus",
    "TaskSignature",
    "UnrecognizedTaskError",
    "return_value_field",
]
