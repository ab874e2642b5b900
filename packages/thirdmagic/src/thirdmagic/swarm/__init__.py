"""Swarms."""

from thirdmagic.swarm.creator import swarm
from thirdmagic.swarm.model import SwarmConfig, SwarmTaskSignature
from thirdmagic.swarm.state import PublishState

__all__ = ["PublishState", "SwarmConfig", "SwarmTaskSignature", "swarm"]
