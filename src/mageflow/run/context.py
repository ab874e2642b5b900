"""The one ContextVar: which run the current code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol


class Client(Protocol):
    """What a run asks of the client that runs it."""

    async def load_signature(self, key: str) -> Any:
        """Return the signature of a key, or `None`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """The run that the current asyncio task or thread executes.

    Args:
        client: the client that runs it; the facade alone knows its type.
        made: how often each description was asked for in this run, see `mageflow.run.replay`.
        asked: ids of signatures that it made, now or in an earlier run.
        started: those of them that it started.
        fed: how many items it added to each map.
        changed: how often it changed the arguments of each signature.
    """

    client: Client
    id: str
    run: int
    attempt: int
    made: dict[bytes, int] = field(default_factory=dict[bytes, int])
    asked: set[str] = field(default_factory=set[str])
    started: set[str] = field(default_factory=set[str])
    fed: dict[str, int] = field(default_factory=dict[str, int])
    changed: dict[str, int] = field(default_factory=dict[str, int])


current_run: ContextVar[CurrentRun | None] = ContextVar("mageflow_current_run", default=None)
