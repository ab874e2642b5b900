"""How a thread waits for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mageflow.errors import LoopStoppedError

T = TypeVar("T")
_LOOK = 1.0
"""Seconds after which a thread looks whether the loop that it waits for still runs."""


def run_on_loop(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Run a coroutine on the loop of another thread and return its result.

    Raises:
        LoopStoppedError: the loop has stopped; the coroutine is canceled, should the loop run again.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    while True:
        try:
            return future.result(_LOOK)
        except TimeoutError:
            if future.done():
                return future.result()
            if not loop.is_running():
                future.cancel()
                raise LoopStoppedError from None
