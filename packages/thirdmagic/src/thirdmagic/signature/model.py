"""Signatures."""

from typing import Any, TypeAlias

from mageflow import Signature
from thirdmagic._gone import Gone
from thirdmagic.clients import BaseClientAdapter, DefaultClientAdapter
from thirdmagic.consts import REMOVED_TASK_TTL
from thirdmagic.signature.status import PauseActionTypes, SignatureStatus, TaskStatus
from thirdmagic.utils import HAS_HATCHET

TaskInputType: TypeAlias = str | Signature[Any, Any]
SignatureConfig = Gone("SignatureConfig", "lifetimes are settings: MageflowConfig(ttl=TTLConfig(done_ttl=...))")

__all__ = [
    "HAS_HATCHET",
    "REMOVED_TASK_TTL",
    "BaseClientAdapter",
    "DefaultClientAdapter",
    "PauseActionTypes",
    "Signature",
    "SignatureConfig",
    "SignatureStatus",
    "TaskInputType",
    "TaskStatus",
]
