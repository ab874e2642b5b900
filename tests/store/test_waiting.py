"""The audit of what signatures wait on can fail: each test breaks a state that is right and sees it noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.node import Node
from tests.store.compare import compare
from tests.store.driver import Driver
from tests.store.snapshot import Snapshot
from tests.store.waiting import Wait, leaked_slots, overfull, stalled, why
from tests.store.world import World


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    """A chain, of which the second member is a swarm of three that runs two at a time: one runs, one has a row."""
    driver = Driver(redis_url)
    world = World(driver)
    swarm = Node(kind="s", members=[Node(), Node(), Node()], bound=2, closed=True)
    chain = Node(kind="c", members=[Node(), swarm, Node()])
    world.create(chain)
    world.run(chain, with_message=False)
    for task in (chain.members[0], swarm.members[0]):
        world.deliver(world.name(task), 1, 0)
        if task.container is chain:
            world.finish(task, 1, "d")
    world.check()
    yield world
    driver.close()


def names(world: World) -> list[str]:
    """Return the ids of chain, its members, the members of the swarm."""
    chain = world.model.roots[0]
    return [world.ids[node] for node in (chain, *chain.members, *chain.members[1].members)]


def test_each_waits_on_one_named_thing(world: World) -> None:
    """Run, row, slot, member: the first that applies."""
    chain, _, swarm, last, *members = names(world)
    found = {identifier: why(world.state, identifier) for identifier in (chain, swarm, last, *members)}
    assert found == {
        chain: Wait("member", swarm),
        swarm: Wait("member", members[0]),
        last: Wait("member", swarm),
        members[0]: Wait("run", "worker"),
        members[1]: Wait("row", members[1]),
        members[2]: Wait("slot", swarm),
    }


def lose_row(state: Snapshot, swarm: str, member: str) -> None:
    """A row is gone from the outbox."""
    del state.out[member]


def lose_run(state: Snapshot, swarm: str, member: str) -> None:
    """A run is gone."""
    state.runs.clear()


def lose_queue(state: Snapshot, swarm: str, member: str) -> None:
    """The queue of a swarm is gone."""
    del state.lists[f"q:{swarm}"]


def free_slot(state: Snapshot, swarm: str, member: str) -> None:
    """A slot is free, and nobody is told."""
    state.slots(swarm).remove(member)


@pytest.mark.parametrize("damage", [lose_row, lose_run, lose_queue, free_slot])
def test_stall_is_noticed(world: World, damage: Callable[[Snapshot, str, str], None]) -> None:
    """A signature that nothing will ever move waits on nothing."""
    assert stalled(world.state) == []
    _, _, swarm, _, _, second, _ = names(world)
    damage(world.state, swarm, second)
    assert stalled(world.state)


def test_wrong_slots_are_noticed(world: World) -> None:
    """More members than the bound allows, and slots of what has ended."""
    _, first, swarm, _, _, _, third = names(world)
    world.state.slots(swarm).add(third)
    assert overfull(world.state) == [swarm]
    world.state.slots(swarm).remove(third)
    world.state.slots(swarm).add(f"{first}~1")
    assert leaked_slots(world.state) == [(swarm, f"{first}~1")]


DAMAGES: dict[str, Callable[[Snapshot, str], object]] = {
    "counter": lambda state, swarm: state.record(swarm).update(nd="1"),
    "status": lambda state, swarm: state.record(swarm).update(st="f"),
    "slot": lambda state, swarm: state.slots(swarm).add(f"{swarm}~1"),
    "lifetime": lambda state, swarm: state.expiring.add(f"s:{swarm}"),
    "row": lambda state, swarm: state.out.update({f"{swarm}x": 0.0}),
    "index": lambda state, swarm: state.scores["ix:a"].pop(state.record(swarm)["c"]),
    "record": lambda state, swarm: state.records.update({f"{swarm}x": {"k": "t", "st": "p"}}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_difference_is_noticed(world: World, name: str) -> None:
    """Whatever is not as the model says fails the comparison."""
    compare(world.model, world.state, world.ids, world.nodes)
    DAMAGES[name](world.state, names(world)[2])
    with pytest.raises((AssertionError, KeyError)):
        compare(world.model, world.state, world.ids, world.nodes)
