"""Constants of swarms."""

from thirdmagic._gone import Gone

SWARM_MESSAGE_PARAM_NAME = Gone("SWARM_MESSAGE_PARAM_NAME", "the message of a swarm is kept apart from its arguments")

__all__ = ["SWARM_MESSAGE_PARAM_NAME"]
