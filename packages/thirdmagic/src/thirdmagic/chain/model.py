"""Chains."""

from mageflow import ChainSignature as ChainTaskSignature
from thirdmagic.container import ContainerTaskSignature
from thirdmagic.errors import MissingSignatureError
from thirdmagic.signature.status import SignatureStatus
from thirdmagic.task.model import TaskSignature
from thirdmagic.utils import HAS_HATCHET

__all__ = [
    "HAS_HATCHET",
    "ChainTaskSignature",
    "ContainerTaskSignature",
    "MissingSignatureError",
    "SignatureStatus",
    "TaskSignature",
]
