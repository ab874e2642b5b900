"""Making chains."""

from mageflow import chain
from thirdmagic.chain.model import ChainTaskSignature
from thirdmagic.signature.model import TaskInputType
from thirdmagic.signature.retry_cache import cache_signature, get_cached_signature
from thirdmagic.task.creator import TaskSignatureConvertible, resolve_signatures

__all__ = [
    "ChainTaskSignature",
    "TaskInputType",
    "TaskSignatureConvertible",
    "cache_signature",
    "chain",
    "get_cached_signature",
    "resolve_signatures",
]
