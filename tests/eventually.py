"""Waiting in tests: poll with a deadline and a description."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_PAUSE = 0.01


async def eventually(predicate: Callable[[], bool | Awaitable[bool]], description: str, deadline: float = 10.0) -> None:
    """Return as soon as the predicate holds; fail with the description when it does not within `deadline` seconds."""
    until = time.monotonic() + deadline
    while True:
        found = predicate()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > until:
            msg = f"not within {deadline:g} s: {description}"
            raise AssertionError(msg)
        await asyncio.sleep(_PAUSE)
