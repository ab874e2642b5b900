"""Random steering between any two events keeps the rules that every state must keep."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.driver import Driver
from tests.store.play import Move
from tests.store.steering import Steered
from tests.store.steering_play import CHOICES, play_steered, wind_up
from tests.store.test_model import PACES, QUICK
from tests.store.world import World

MOVES = st.lists(st.tuples(st.sampled_from(CHOICES), st.binary(max_size=24)), min_size=16, max_size=40)
EXAMPLES = 600


def live_through(driver: Driver, moves: list[Move], pace: dict[str, tuple[int, int] | bool]) -> None:
    """Make the moves, take all marks away, and bring everything to its end."""
    assert isinstance(pace["parts"], tuple)
    budget, page = pace["parts"]
    flows = Steered(World(driver, budget=budget, page=page, lazy=bool(pace["lazy"])))
    play_steered(flows, moves)
    wind_up(flows)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=EXAMPLES)
@given(moves=MOVES, pace=PACES)
def test_steering_keeps_the_rules(driver: Driver, moves: list[Move], pace: dict[str, tuple[int, int] | bool]) -> None:
    """Nothing held runs, nothing stalls, no slot leaks, bounds are kept, and all ends once no mark is left."""
    live_through(driver, moves, pace)
