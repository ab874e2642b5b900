"""Slots that held members give back, and the order in which they get others."""

from __future__ import annotations

from mageflow.flow.signature import Steer
from tests.node import Node
from tests.store import steering_play
from tests.store.driver import Driver
from tests.store.play import wind_up
from tests.store.steering import Steered
from tests.store.world import World


def deliver(world: World, task: Node) -> None:
    """Deliver the row of a task, and note that it was turned away."""
    world.deliver(world.name(task), task.dispatch, task.attempts)
    world.turn_away()


def finish(world: World, task: Node) -> None:
    """Let a task run and succeed."""
    deliver(world, task)
    world.finish(task, task.run, "d")
    world.check()


def start(world: World, swarm: Node) -> None:
    """Start a new swarm."""
    world.create(swarm)
    world.run(swarm, with_message=False)
    world.check()


def test_held_members_come_back_in_their_order(driver: Driver) -> None:
    """Members that gave back their slots are dispatched again as they stood before."""
    world = World(driver)
    swarm = Node(kind="s", members=[Node() for _ in range(6)], bound=3, closed=True)
    start(world, swarm)
    world.steer(swarm, "suspend")
    for task in swarm.members[:3]:
        deliver(world, task)
    world.deliveries.clear()
    world.steer(swarm, "resume")
    world.check()
    assert [name for name, _, _ in world.deliveries] == [world.name(task) for task in swarm.members[:3]]
    wind_up(world)


def test_member_held_again_while_it_waits_for_its_slot_takes_none(driver: Driver) -> None:
    """A chain that is suspended before it got another slot leaves that slot to the next in the queue."""
    world = World(driver)
    chain = Node(kind="c", members=[Node(), Node()])
    swarm = Node(kind="s", members=[chain, Node(), Node()], bound=1, closed=True)
    start(world, swarm)
    world.steer(chain, "suspend")
    deliver(world, chain.members[0])
    for verb in ("resume", "suspend"):
        world.steer(chain, verb)
        world.check()
    finish(world, swarm.members[1])
    assert swarm.members[2].row
    world.steer(chain, "resume")
    finish(world, swarm.members[2])
    finish(world, chain.members[0])
    wind_up(world)


def test_what_is_marked_again_is_not_looked_through_for_ever(driver: Driver) -> None:
    """The work that a resume left comes to its end when the next mark came before it."""
    world = World(driver, budget=1, page=1, lazy=True)
    swarm = Node(kind="s", members=[Node() for _ in range(3)], bound=3, closed=True)
    start(world, swarm)
    flows = Steered(world)
    flows.look(settled=True)
    flows.ask(Steer(id=world.name(swarm), verb="suspend"))
    for identifier in flows.rows():
        assert flows.deliver(identifier, 1, 0) == "held"
    flows.ask(Steer(id=world.name(swarm), verb="resume"))
    flows.ask(Steer(id=world.name(swarm), verb="suspend"))
    flows.look(settled=True)
    steering_play.wind_up(flows)


def test_what_waits_for_a_slot_is_not_looked_through_for_ever(driver: Driver) -> None:
    """Many members of a swarm that waits for its slot are left alone until it has one."""
    world = World(driver, budget=1, page=1, lazy=True)
    inner = Node(kind="s", members=[Node() for _ in range(3)], bound=3, closed=True)
    start(world, Node(kind="s", members=[inner, Node()], bound=1, closed=True))
    world.steer(inner, "suspend")
    for task in inner.members:
        deliver(world, task)
    world.check()
    world.steer(inner, "resume")
    world.check()
    wind_up(world)
