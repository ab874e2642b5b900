"""The import names of MageFlow 0.3, on today's MageFlow: re-exports only."""

from mageflow import abounded_field
from thirdmagic.chain.creator import chain
from thirdmagic.swarm.creator import swarm
from thirdmagic.task.creator import sign

__all__ = ["abounded_field", "chain", "sign", "swarm"]
