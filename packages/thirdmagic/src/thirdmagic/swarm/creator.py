"""Making swarms."""

from mageflow import swarm
from thirdmagic.signature.retry_cache import cache_signature, get_cached_signature
from thirdmagic.swarm.model import SwarmConfig, SwarmTaskSignature
from thirdmagic.swarm.state import PublishState
from thirdmagic.task.creator import TaskSignatureConvertible, TaskSignatureOptions
from thirdmagic.typing_support import Unpack


class SignatureOptions(TaskSignatureOptions, total=False):
    """Keywords of `swarm` that are not arguments for its members."""

    is_swarm_closed: bool
    config: SwarmConfig


__all__ = [
    "PublishState",
    "SignatureOptions",
    "SwarmConfig",
    "SwarmTaskSignature",
    "TaskSignatureConvertible",
    "TaskSignatureOptions",
    "Unpack",
    "cache_signature",
    "get_cached_signature",
    "swarm",
]
