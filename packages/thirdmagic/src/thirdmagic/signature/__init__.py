"""Signatures."""

from thirdmagic.signature.model import Signature, SignatureConfig
from thirdmagic.signature.retry_cache import SignatureRetryCache, retry_cache_ctx
from thirdmagic.signature.status import PauseActionTypes, SignatureStatus, TaskStatus

__all__ = [
    "PauseActionTypes",
    "Signature",
    "SignatureConfig",
    "SignatureRetryCache",
    "SignatureStatus",
    "TaskStatus",
    "retry_cache_ctx",
]
