"""Random steering between the parts of what earlier events left to be done."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.driver import Driver
from tests.store.play import Move
from tests.store.settings import LONG, QUICK, long, moves_of
from tests.store.steering import Steered
from tests.store.steering_play import CHOICES, EVENTS, play_steered, wind_up
from tests.store.world import World

MOVES = moves_of(CHOICES, longest=40)
PARTS = st.sampled_from([(50, 20), (5, 2), (1, 1)])


def live_through(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """Make the moves, take all marks away, and bring everything to its end."""
    flows = Steered(World(driver, budget=parts[0], page=parts[1], lazy=True))
    play_steered(flows, moves, EVENTS)
    wind_up(flows)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=200)
@given(moves=MOVES, parts=PARTS)
def test_steering_keeps_the_rules(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """Nothing held runs, nothing stalls, no slot leaks, bounds are kept, and all ends once no mark is left."""
    live_through(driver, moves, parts)


@long
@settings(LONG, max_examples=1000)
@given(moves=MOVES, parts=PARTS)
def test_steering_keeps_the_rules_for_long(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """The same, often enough to meet what is rare."""
    live_through(driver, moves, parts)
