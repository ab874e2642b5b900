"""Swarms."""

from mageflow import SwarmConfig
from mageflow import SwarmSignature as SwarmTaskSignature
from thirdmagic.container import ContainerTaskSignature
from thirdmagic.errors import SwarmIsCanceledError, TaskAndMsgsDontMatchForSwarmError, TooManyTasksError
from thirdmagic.signature import Signature
from thirdmagic.signature.status import SignatureStatus
from thirdmagic.swarm.consts import SWARM_MESSAGE_PARAM_NAME
from thirdmagic.swarm.state import PublishState
from thirdmagic.task.creator import TaskSignatureConvertible, resolve_signatures
from thirdmagic.task.model import TaskSignature
from thirdmagic.utils import HAS_HATCHET

__all__ = [
    "HAS_HATCHET",
    "SWARM_MESSAGE_PARAM_NAME",
    "ContainerTaskSignature",
    "PublishState",
    "Signature",
    "SignatureStatus",
    "SwarmConfig",
    "SwarmIsCanceledError",
    "SwarmTaskSignature",
    "TaskAndMsgsDontMatchForSwarmError",
    "TaskSignature",
    "TaskSignatureConvertible",
    "TooManyTasksError",
    "resolve_signatures",
]
