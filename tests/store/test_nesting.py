"""Signatures in signatures, to depth 5: as members, as callbacks and as what a task returns, against the model."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.node import Node
from tests.store.driver import Driver
from tests.store.play import Move, play, wind_up
from tests.store.settings import LONG, QUICK, SEED, long, moves_of
from tests.store.sketch import Numbers, draw_cases, draw_settings
from tests.store.world import World

Level = tuple[str, str]
"""A kind, and what the next level is to it."""
LEVELS: Sequence[Level] = [
    *itertools.product("t", ("success", "failure", "returned")),
    *itertools.product("csw", ("member", "success", "failure")),
]
_RUNNING = [
    "deliver",
    "step",
    "steps",
    "steps",
    "finish",
    "attempt_failed",
    "lapse",
    "overdue",
    "stopped",
    "deliver_any",
]
_STEERING = [*_RUNNING, "steer", "steer", "steer", "turn_away", "beat"]
PATHS = st.lists(st.sampled_from(LEVELS), min_size=2, max_size=4)


def nest(world: World, path: Sequence[Level], numbers: Numbers) -> Node:
    """Return a signature with all that a path says below it; what is a callback is written."""
    if not path:
        return Node()
    kind, link = path[0]
    inner, node = nest(world, path[1:], numbers), Node(kind=kind)
    if kind != "t":
        node.members = [Node() for _ in range(2 + numbers.below(2))]
    if link == "member":
        node.members[numbers.below(len(node.members))] = inner
    if kind == "s":
        draw_settings(node, numbers)
    draw_cases(node)
    if link == "returned":
        node.plan = inner
    elif link != "member":
        world.create(inner)
        (node.success if link == "success" else node.failure).append(inner)
    return node


def live_through(driver: Driver, path: Sequence[Level], shape: bytes, moves: list[Move], *, steered: bool) -> None:
    """Start what a path says, make the moves, bring everything to its end; what is not steered goes in small parts."""
    world = World(driver) if steered else World(driver, budget=1, page=1, lazy=True)
    root = nest(world, path, Numbers(shape))
    world.create(root)
    world.run(root, with_message=False)
    play(world, moves)
    wind_up(world)


def draw_moves(source: random.Random, verbs: Sequence[str]) -> list[Move]:
    """Draw moves as Hypothesis would, from another source."""
    return [(source.choice(verbs), source.randbytes(12)) for _ in range(source.randint(8, 30))]


def live_through_all(driver: Driver, paths: Iterable[Sequence[Level]]) -> None:
    """Go through paths, with what happens drawn from the path."""
    for path in paths:
        for steered, verbs in ((True, _STEERING), (False, _RUNNING)):
            source = random.Random(f"{path} {steered}")
            shape, moves = source.randbytes(40), draw_moves(source, verbs)
            try:
                live_through(driver, path, shape, moves, steered=steered)
            except AssertionError as error:
                raise AssertionError(f"{path}, steered: {steered}") from error


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=100)
@given(path=PATHS, shape=st.binary(max_size=40), moves=moves_of(_STEERING, longest=30))
def test_nesting_does_what_the_model_does(driver: Driver, path: list[Level], shape: bytes, moves: list[Move]) -> None:
    """Failures, retries, deaths and steering at any place of a nesting lead to what the model says."""
    live_through(driver, path, shape, moves, steered=True)


@pytest.mark.timeout(300)
def test_each_pair_of_kinds(driver: Driver) -> None:
    """Whatever stands in, behind or in the place of whatever: it ends as the model says."""
    live_through_all(driver, ((level,) for level in LEVELS))
    live_through_all(driver, itertools.product(LEVELS[::2], LEVELS[1::2]))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_each_nesting(driver: Driver) -> None:
    """The same for each nesting of three levels and what is below them, and for many of four."""
    live_through_all(driver, itertools.product(LEVELS, repeat=3))
    source = random.Random(SEED)
    live_through_all(driver, ([source.choice(LEVELS) for _ in range(4)] for _ in range(1500)))


@long
@settings(LONG, max_examples=3000)
@given(path=PATHS, shape=st.binary(max_size=40), moves=moves_of(_STEERING, longest=40))
def test_nesting_does_what_the_model_does_for_long(
    driver: Driver, path: list[Level], shape: bytes, moves: list[Move]
) -> None:
    """The first, often enough to meet what is rare."""
    live_through(driver, path, shape, moves, steered=True)


def test_what_replaces_a_task_below_a_failed_swarm_never_starts(driver: Driver) -> None:
    """A running member of a swarm that failed may end; what it returns instead is canceled, and it is, too."""
    world = World(driver)
    swarm = Node(kind="s", members=[Node(), Node()], tolerance=1, closed=True)
    world.create(swarm)
    world.run(swarm, with_message=False)
    for member in swarm.members:
        world.deliver(world.ids[member], member.dispatch, member.attempts)
    world.finish(swarm.members[0], 1, "f")
    by = Node()
    world.create(by)
    world.replace(swarm.members[1], 1, by, check=False)
    world.check()
    assert swarm.members[1].status == by.status == "c"
    wind_up(world)


def test_late_word_of_a_held_delivery_takes_no_slot_from_what_runs(driver: Driver) -> None:
    """That a delivery was turned away may be noted when its task was replaced by one that runs, under another mark."""
    world = World(driver)
    task = Node()
    swarm = Node(kind="s", members=[task, Node()], bound=1, closed=True)
    world.create(swarm)
    world.run(swarm, with_message=False)
    world.steer(swarm, "suspend")
    assert world.deliver(world.ids[task], task.dispatch, task.attempts) == "held"
    world.steer(swarm, "resume")
    world.deliver(world.ids[task], task.dispatch, task.attempts)
    by = Node()
    world.create(by)
    world.replace(task, task.run, by, check=False)
    world.check()
    world.deliver(world.ids[by], by.dispatch, by.attempts)
    world.steer(swarm, "suspend")
    world.turn_away()
    world.check()
    assert swarm.holding == [task]
    wind_up(world)
