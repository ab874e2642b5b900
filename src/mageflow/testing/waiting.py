"""Waiting in tests: poll with a deadline, and say what was found when it passes."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable

DEADLINE = float(os.environ.get("MAGEFLOW_TEST_DEADLINE", "10"))
"""Seconds after which a test gives up, unless it says otherwise; the environment may give a slow machine more."""
PAUSE = 0.01
"""Seconds between two looks."""


async def eventually(
    predicate: Callable[[], bool | Awaitable[bool]],
    description: str,
    deadline: float = DEADLINE,
    found: Callable[[], object] | None = None,
) -> None:
    """Return as soon as the predicate holds.

    Args:
        predicate: looked at every 10 ms.
        description: what is waited for.
        deadline: seconds.
        found: says what there is instead.

    Raises:
        AssertionError: it does not hold within `deadline`; tells the description, and what was found.
    """
    until = time.monotonic() + deadline
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > until:
            instead = "" if found is None else f"; found: {found()}"
            msg = f"not within {deadline:g} s: {description}{instead}"
            raise AssertionError(msg)
        await asyncio.sleep(PAUSE)
