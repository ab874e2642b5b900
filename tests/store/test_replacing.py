"""Random flows with switches, of tasks that return signatures, under steering."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.driver import Driver
from tests.store.play import Move
from tests.store.replacing import Replacing
from tests.store.replacing_play import CHOICES, EVENTS
from tests.store.settings import LONG, QUICK, long, moves_of
from tests.store.steering_play import play_steered, wind_up

MOVES = moves_of(CHOICES, longest=40)
PARTS = st.sampled_from([(100, 20), (5, 2), (1, 1)])


def live_through(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """Make the moves, take all marks away, and bring everything to its end."""
    flows = Replacing(driver, budget=parts[0], page=parts[1])
    play_steered(flows, moves, EVENTS)
    wind_up(flows)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=200)
@given(moves=MOVES, parts=PARTS)
def test_replacing_keeps_the_rules(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """Each replaced task ends with what replaced it, nothing stalls or leaks, and all ends and goes."""
    live_through(driver, moves, parts)


@long
@settings(LONG, max_examples=1000)
@given(moves=MOVES, parts=PARTS)
def test_replacing_keeps_the_rules_for_long(driver: Driver, moves: list[Move], parts: tuple[int, int]) -> None:
    """The same, often enough to meet what is rare."""
    live_through(driver, moves, parts)
