"""Containers."""

from mageflow import ChainSignature, SwarmSignature
from thirdmagic.signature import Signature

ContainerTaskSignature = ChainSignature | SwarmSignature  # pyright: ignore[reportMissingTypeArgument] - isinstance takes no arguments

__all__ = ["ContainerTaskSignature", "Signature"]
