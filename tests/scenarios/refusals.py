"""Calls that must be refused without a trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import pytest

from tests.eventually import eventually
from tests.scenarios.support import Server

Calls = dict[str, Callable[[], Awaitable[object]]]


@contextmanager
def unchanged(server: Server) -> Generator[None]:
    """Fail when anything in the namespace differs after the block, and when there was nothing in it."""
    before = server.dump()
    yield
    after = server.dump()
    assert before
    assert {key for key in before | after if before.get(key) != after.get(key)} == set()


async def refused(server: Server, calls: Calls, error: type[Exception], *parts: str) -> None:
    """Check that each call raises this error, whose text has all the parts, and changes nothing."""
    await eventually(server.all_offered, "what was started is noted")
    for name, call in calls.items():
        with unchanged(server):
            with pytest.raises(error) as caught:
                await call()
            text = str(caught.value)
            assert all(part in text for part in parts), f"{name}: {text}"
