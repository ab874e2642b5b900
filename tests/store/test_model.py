"""The scripts of the store against the model, under random interleavings of everything that can happen."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.node import Node
from tests.store.driver import Driver
from tests.store.play import CHOICES, MAP_CHOICES, STEERED_CHOICES, STEERED_MAP_CHOICES, Move, play, wind_up
from tests.store.settings import LONG, QUICK, long, moves_of
from tests.store.world import World

Pace = dict[str, tuple[int, int] | bool]
MOVES, STEERED_MOVES = moves_of(CHOICES, longest=40), moves_of(STEERED_CHOICES, longest=60)
MAP_MOVES, STEERED_MAP_MOVES = moves_of(MAP_CHOICES, longest=40), moves_of(STEERED_MAP_CHOICES, longest=50)
PACES = st.fixed_dictionaries({"parts": st.sampled_from([(50, 20), (5, 2), (1, 1)]), "lazy": st.booleans()})
WHOLE: Pace = {"parts": (50, 20), "lazy": False}


def live_through(driver: Driver, moves: list[Move], pace: Pace) -> None:
    """Make the moves and bring everything to its end, in parts of the given size."""
    assert isinstance(pace["parts"], tuple)
    budget, page = pace["parts"]
    world = World(driver, budget=budget, page=page, lazy=bool(pace["lazy"]))
    play(world, moves)
    wind_up(world)


# A replaced task ended, and was counted through, when the flow that named it as a callback expired.
EXPIRED_AS_COUNTED = [
    *[("rest", b"")] * 9,
    ("container", b"\x01"),
    ("create", b""),
    ("add", b"\0\0\0\0\0\0\x01"),
    *[(verb, b"") for verb in ("close", "step", "run")],
    ("plan", b"\0\0%\x01"),
]


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=300)
@example(moves=EXPIRED_AS_COUNTED, pace={"parts": (5, 2), "lazy": True})
@given(moves=MOVES, pace=PACES)
def test_scripts_do_what_the_model_does(driver: Driver, moves: list[Move], pace: Pace) -> None:
    """After every event the records, the outbox, the counters and the lifetimes are those of the model."""
    live_through(driver, moves, pace)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=300)
@given(moves=STEERED_MOVES)
def test_steering_does_what_the_model_does(driver: Driver, moves: list[Move]) -> None:
    """The same with marks set and taken away at any moment, and deliveries that are turned away."""
    live_through(driver, moves, WHOLE)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=150)
@given(moves=MAP_MOVES, pace=PACES)
def test_maps_do_what_the_model_does(driver: Driver, moves: list[Move], pace: Pace) -> None:
    """The same with maps: an item has a record when the model says so, and is a member like any other."""
    live_through(driver, moves, pace)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=150)
@given(moves=STEERED_MAP_MOVES)
def test_steering_of_maps_does_what_the_model_does(driver: Driver, moves: list[Move]) -> None:
    """Maps, and single items of them, are steered at any moment: before their turn, while they run, afterwards."""
    live_through(driver, moves, WHOLE)


@long
@settings(LONG, max_examples=1500)
@given(moves=MAP_MOVES, pace=PACES)
def test_maps_do_what_the_model_does_for_long(driver: Driver, moves: list[Move], pace: Pace) -> None:
    """The third, often enough to meet what is rare."""
    live_through(driver, moves, pace)


@long
@settings(LONG, max_examples=1500)
@given(moves=STEERED_MAP_MOVES)
def test_steering_of_maps_does_what_the_model_does_for_long(driver: Driver, moves: list[Move]) -> None:
    """The fourth, often enough to meet what is rare."""
    live_through(driver, moves, WHOLE)


@long
@settings(LONG, max_examples=1500)
@given(moves=MOVES, pace=PACES)
def test_scripts_do_what_the_model_does_for_long(driver: Driver, moves: list[Move], pace: Pace) -> None:
    """The first, often enough to meet what is rare."""
    live_through(driver, moves, pace)


@long
@settings(LONG, max_examples=1500)
@given(moves=STEERED_MOVES)
def test_steering_does_what_the_model_does_for_long(driver: Driver, moves: list[Move]) -> None:
    """The second, often enough to meet what is rare."""
    live_through(driver, moves, WHOLE)


def many(count: int) -> list[Node]:
    """Return new tasks."""
    return [Node() for _ in range(count)]


def chain_below(depth: int) -> Node:
    """Return chains in chains."""
    inner = Node(kind="c", members=many(2)) if depth == 1 else chain_below(depth - 1)
    return inner if depth == 1 else Node(kind="c", members=[inner, Node()])


@pytest.mark.parametrize("interrupts", [False, True])
@pytest.mark.parametrize("bound", [None, 7])
def test_large_swarm_that_fails(driver: Driver, bound: int | None, *, interrupts: bool) -> None:
    """A swarm of several hundred members, written as a draft, that fails while some run is canceled in parts."""
    world = World(driver, lazy=True)
    nested = [Node(kind="c", members=many(3)) for _ in range(40)]
    swarm = Node(kind="s", members=[*many(250), *nested], bound=bound, tolerance=2, interrupts=interrupts, closed=True)
    outer = Node(kind="s", members=[swarm, *many(3)], bound=2, closed=True)
    world.draft(outer, (), 100, complete=True)
    world.check()
    world.run(outer, with_message=False)
    world.check()
    for task in [node for node in swarm.members if node.row][:7]:
        world.deliver(world.ids[task], task.dispatch, task.attempts)
    running = [node for node in swarm.members if node.running]
    for task in running[:2]:
        world.finish(task, task.run, "f")
    for task in running[2:5]:
        world.finish(task, task.run, "d")
    world.check()
    assert swarm.status == "f"
    wind_up(world)


def test_large_callback_is_copied_in_parts(driver: Driver) -> None:
    """A fired container of several hundred signatures starts once, when all of its copies are there."""
    world = World(driver)
    template = Node(kind="s", members=[*many(180), *(Node(kind="s", members=many(30)) for _ in range(3))])
    world.create(template)
    root = Node(success=[template])
    world.create(root)
    world.run(root, with_message=False)
    world.check()
    world.deliver(world.ids[root], 1, 0)
    world.finish(root, 1, "d")
    world.check()
    assert len(root.fired[0].members) == 183
    wind_up(world)


def test_large_block_that_is_refused_leaves_nothing(driver: Driver) -> None:
    """Parts written under a draft are taken back, and what they had claimed is as it was."""
    world = World(driver)
    free = Node()
    world.create(free)
    taken = Node(kind="c", members=many(2))
    world.create(taken)
    world.check()
    before = world.state.comparable()[:3]
    claimed = [free, taken.members[0]]
    root = Node(kind="s", members=[free, *many(120), Node(kind="c", members=many(2)), taken.members[0]])
    assert world.draft(root, claimed, 100, complete=True) == "already_in_container"
    world.check()
    assert world.state.comparable()[:3] == before
    wind_up(world)


@pytest.mark.parametrize("outcome", ["d", "f"])
def test_flow_that_names_its_own_root_goes(driver: Driver, outcome: str) -> None:
    """Where what replaced a task names its root as a callback, the flow does not keep itself; what is outside does."""
    world = World(driver, budget=1, page=1)
    root, outer = Node(), Node()
    for node in (root, Node(success=[root]), outer):
        world.create(node)
    world.run(root, with_message=False)
    world.deliver(world.ids[root], 1, 0)
    by = Node(success=[root], failure=[root, outer])
    world.create(by)
    world.replace(root, 1, by, check=False)
    world.deliver(world.ids[by], 1, 0)
    world.finish(by, 1, outcome)
    world.check()
    for fired in by.fired:
        world.deliver(world.ids[fired], 1, 0)
        world.finish(fired, 1, "d")
    world.check()
    assert root.ended
    assert not root.expiring
    wind_up(world)


def test_cancel_ends_what_was_fired_below_a_replacement(driver: Driver) -> None:
    """Callbacks that the members of a replacement fired are below the task, too."""
    world = World(driver)
    callback, root = Node(), Node(kind="c", members=many(2))
    world.create(callback)
    world.create(root)
    world.run(root, with_message=False)
    first = root.members[0]
    world.check()
    world.deliver(world.ids[first], 1, 0)
    by = Node(kind="c", members=[Node(success=[callback]), Node()])
    world.create(by)
    world.replace(first, 1, by, check=False)
    world.check()
    world.deliver(world.ids[by.members[0]], 1, 0)
    world.finish(by.members[0], 1, "d")
    world.check()
    world.steer(root, "cancel")
    world.check()
    assert by.members[0].fired[0].status == "c"
    wind_up(world)


def test_nesting_has_a_limit(driver: Driver) -> None:
    """Containers nest 64 deep, not deeper."""
    world = World(driver)
    assert world.create(chain_below(63)) is None
    world.check()
    assert world.commit([*world.parts(deep := chain_below(64)), world.new(deep)]) == "too_deep"
    wind_up(world)


def test_removal_overtakes_the_expiry_of_a_flow(driver: Driver) -> None:
    """A flow that is removed while its records are being given their lifetime goes as a whole."""
    world = World(driver, budget=1, page=1, lazy=True)
    chain = Node(kind="c", members=many(2))
    root = Node(kind="s", members=[chain], closed=True)
    world.create(root)
    world.check()
    world.steer(root, "cancel")
    expiry = f"!x:{world.ids[root]}"
    while expiry not in world.rows() or f"s:{world.ids[chain]}" not in driver.snapshot().expiring:
        world.continue_(min(row for row in world.rows() if row[0] == "!"))
    assert f"s:{world.ids[root]}" not in driver.snapshot().expiring
    world.steer(root, "remove")
    world.check()
    assert not world.state.records
    wind_up(world)
