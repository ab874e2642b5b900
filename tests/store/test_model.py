"""The scripts of the store against the model, under random interleavings of everything that can happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.driver import Driver
from tests.store.play import CHOICES, Move, play, wind_up
from tests.store.world import World

MOVES = st.lists(st.tuples(st.sampled_from(CHOICES), st.binary(max_size=24)), min_size=20, max_size=50)
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def driver(redis_url: str) -> Iterator[Driver]:
    """One connection for all examples."""
    driver = Driver(redis_url)
    yield driver
    driver.close()


@pytest.mark.timeout(600)
@settings(QUICK, max_examples=2000)
@given(moves=MOVES, budget=st.sampled_from([(100, 20), (5, 2), (1, 1)]), lazy=st.booleans())
def test_scripts_do_what_the_model_does(driver: Driver, moves: list[Move], budget: tuple[int, int], lazy: bool) -> None:
    """After every event the records, the outbox, the counters and the lifetimes are those of the model."""
    world = World(driver, budget=budget[0], page=budget[1], lazy=lazy)
    play(world, moves)
    wind_up(world)
