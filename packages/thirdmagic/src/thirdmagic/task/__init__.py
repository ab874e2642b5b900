"""Tasks."""

from thirdmagic.signature.model import TaskInputType
from thirdmagic.signature.status import PauseActionTypes, SignatureStatus, TaskStatus
from thirdmagic.task.creator import TaskSignatureConvertible, resolve_signature, resolve_signatures, sign
from thirdmagic.task.model import TaskSignature

__all__ = [
    "PauseActionTypes",
    "SignatureStatus",
    "TaskInputType",
    "TaskSignature",
    "TaskSignatureConvertible",
    "TaskStatus",
    "resolve_signature",
    "resolve_signatures",
    "sign",
]
