"""How the suite reaches each task manager."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig


def embedded(config: MageflowConfig) -> Mageflow:
    """Return a client of the embedded default."""
    return Mageflow(config=config)


async def call_taskiq(client: Mageflow, task: Any, message: BaseModel) -> Any:
    """Call a task of TaskIQ."""
    result = await (await task.kiq(message)).wait_result(check_interval=0.01, timeout=10)
    result.raise_for_error()
    return result.return_value
