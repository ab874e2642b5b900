"""The one ContextVar: which run the current code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """The run that the current asyncio task or thread executes.

    `client` is an opaque handle of the client that runs it; the facade alone knows its type.
    """

    client: object
    id: str
    run: int
    attempt: int


current_run: ContextVar[CurrentRun | None] = ContextVar("mageflow_current_run", default=None)
