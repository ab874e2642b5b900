"""What the suites that drive the scripts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.driver import Driver
from tests.store.settings import SEED


def pytest_report_header() -> str:
    """Say how to draw the random examples of the long tests again."""
    return f"random examples: MAGEFLOW_EXAMPLES_SEED={SEED}"


@pytest.fixture(scope="module")
def driver(redis_url: str) -> Iterator[Driver]:
    """One connection for all examples."""
    driver = Driver(redis_url)
    yield driver
    driver.close()
