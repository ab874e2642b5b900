"""What the suites that drive the scripts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.driver import Driver


@pytest.fixture(scope="module")
def driver(redis_url: str) -> Iterator[Driver]:
    """One connection for all examples."""
    driver = Driver(redis_url)
    yield driver
    driver.close()
