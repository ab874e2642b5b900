"""An engine for the session: a real one where `HATCHET_CLIENT_TOKEN` is set, else the engine for tests."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest
import pytest_asyncio

from mageflow import Mageflow
from tests.hatchet.process import Address, engine_process


@pytest.fixture(scope="session")
def engine_address() -> Iterator[Address | None]:
    """The engine for tests; `None`: the real one that the environment names."""
    if os.environ.get("HATCHET_CLIENT_TOKEN"):
        yield None
        return
    with engine_process() as address:
        yield address


@pytest.fixture(scope="module")
def hatchet_environment(engine_address: Address | None, redis_url: str) -> Iterator[Address | None]:
    """The engine, as the environment of clients and workers names it; signal handlers of workers go with the module."""
    environment = engine_address.environment if engine_address is not None else {}
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    handlers = [signal.getsignal(number) for number in signals]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "REDIS_URL": redis_url}.items():
            patch.setenv(name, value)
        yield engine_address
    for number, handler in zip(signals, handlers, strict=True):
        signal.signal(number, handler)


class Serving(Protocol):
    """What a module serves its tests with: a client, and what it wants beside."""

    client: Mageflow


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(worker: Serving) -> AsyncIterator[Serving]:
    """What the fixture `worker` of the module serves with, the client open on the loop of the test."""
    await worker.client.startup()
    yield worker
    await worker.client.shutdown()
