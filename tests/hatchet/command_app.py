"""What `mageflow worker` serves in a test."""

from __future__ import annotations

import os

from hatchet_sdk import ClientConfig, Hatchet

from mageflow import Mageflow, MageflowConfig

_NAMESPACE = os.environ["MAGEFLOW_TEST_NAMESPACE"]
client = Mageflow(Hatchet(config=ClientConfig(namespace=_NAMESPACE)), config=MageflowConfig(namespace=_NAMESPACE))


@client.task(name="served")
async def served(n: int) -> int:
    """Return the next number."""
    return n + 1
