"""Signatures that a task made before its retry: MageFlow finds them by itself."""

from thirdmagic._gone import Gone
from thirdmagic.message import T
from thirdmagic.signature.model import Signature

_INSTEAD = "a task that runs again gets the signatures of its earlier run by itself"
RetryCacheState = Gone("RetryCacheState", _INSTEAD)
SignatureRetryCache = Gone("SignatureRetryCache", _INSTEAD)
cache_signature = Gone("cache_signature", _INSTEAD)
get_cached_signature = Gone("get_cached_signature", _INSTEAD)
retry_cache_ctx = Gone("retry_cache_ctx", _INSTEAD)
setup_retry_cache = Gone("setup_retry_cache", _INSTEAD)
teardown_retry_cache = Gone("teardown_retry_cache", _INSTEAD)

__all__ = [
    "RetryCacheState",
    "Signature",
    "SignatureRetryCache",
    "T",
    "cache_signature",
    "get_cached_signature",
    "retry_cache_ctx",
    "setup_retry_cache",
    "teardown_retry_cache",
]
