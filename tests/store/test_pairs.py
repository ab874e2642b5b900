"""Each pair of a steering verb and an event at the same moment, in both orders, wherever a signature may stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from mageflow.flow.signature import Verb
from tests.node import Node
from tests.store.driver import Driver
from tests.store.play import wind_up
from tests.store.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is steered, the task to which something happens, the signature that is started, and a swarm above it."""

    target: Node
    task: Node
    root: Node
    swarm: Node | None = None


def _started(world: World, root: Node, *, started: bool) -> None:
    world.create(root)
    if started:
        world.run(root, with_message=False)


def lone_task(world: World, *, started: bool) -> Scene:
    """A task of its own."""
    task = Node()
    _started(world, task, started=started)
    return Scene(target=task, task=task, root=task)


def chain_member(world: World, *, started: bool) -> Scene:
    """The first member of a chain."""
    chain = Node(kind="c", members=[Node(), Node()])
    _started(world, chain, started=started)
    return Scene(target=chain.members[0], task=chain.members[0], root=chain)


def later_member(world: World, *, started: bool) -> Scene:
    """A member of a chain before its turn, while something happens to the one before it."""
    chain = Node(kind="c", members=[Node(), Node(), Node()])
    _started(world, chain, started=started)
    return Scene(target=chain.members[1], task=chain.members[0], root=chain)


def swarm_member(world: World, *, started: bool) -> Scene:
    """A member of an open swarm with one slot."""
    swarm = Node(kind="s", members=[Node(), Node(), Node()], bound=1, tolerance=2)
    _started(world, swarm, started=started)
    return Scene(target=swarm.members[0], task=swarm.members[0], root=swarm, swarm=swarm)


def only_member(world: World, *, started: bool) -> Scene:
    """The only member of a closed swarm, which fails with it."""
    swarm = Node(kind="s", members=[Node()], tolerance=1, interrupts=True, closed=True)
    outer = Node(kind="s", members=[swarm, Node()], bound=1, closed=True)
    _started(world, outer, started=started)
    return Scene(target=swarm, task=swarm.members[0], root=outer, swarm=swarm)


def nested_container(world: World, *, started: bool) -> Scene:
    """A chain in a swarm with one slot."""
    swarm = Node(kind="s", members=[Node(kind="c", members=[Node(), Node()]), Node()], bound=1)
    _started(world, swarm, started=started)
    chain = swarm.members[0]
    return Scene(target=chain, task=chain.members[0], root=swarm, swarm=swarm)


def root_above(world: World, *, started: bool) -> Scene:
    """The root, two levels above the task."""
    inner = nested_container(world, started=started)
    return Scene(target=inner.root, task=inner.task, root=inner.root, swarm=inner.root)


def fired_callback(world: World, *, started: bool) -> Scene:
    """A callback that was fired; before the start its template."""
    template = Node()
    world.create(template)
    root = Node(success=[template])
    _started(world, root, started=started)
    return _fired(world, root, root, template) if started else Scene(target=template, task=template, root=root)


def fired_container(world: World, *, started: bool) -> Scene:
    """A swarm that was fired by a member of a chain; the chain is steered."""
    template = Node(kind="s", members=[Node(), Node(kind="s")], bound=1)
    world.create(template)
    chain = Node(kind="c", members=[Node(success=[template]), Node()])
    _started(world, chain, started=started)
    if not started:
        return Scene(target=chain, task=chain.members[0], root=chain)
    fired = _fired(world, chain, chain.members[0], template)
    return Scene(target=chain, task=fired.target.members[0], root=chain, swarm=fired.target.members[1])


def _fired(world: World, root: Node, firing: Node, template: Node) -> Scene:
    world.deliver(world.name(firing), 1, 0)
    world.finish(firing, 1, "d")
    world.check()
    (copy,) = firing.fired
    assert copy.kind == template.kind
    return Scene(target=copy, task=copy, root=root)


PLACES = [
    *(lone_task, chain_member, later_member, swarm_member, only_member),
    *(nested_container, root_above, fired_callback, fired_container),
]


# Events, and what has happened to the task before.


def deliver(world: World, scene: Scene) -> None:
    """Its row is delivered."""
    world.deliver(world.name(scene.task), scene.task.dispatch, scene.task.attempts)
    world.turn_away()


def deliver_early(world: World, scene: Scene) -> None:
    """The next attempt of the task manager comes while this one runs."""
    world.deliver(world.name(scene.task), scene.task.dispatch, scene.task.attempts + 1)
    world.turn_away()


def deliver_old(world: World, scene: Scene) -> None:
    """The first delivery comes once more."""
    world.deliver(world.name(scene.task), 1, 0)
    world.turn_away()


def done(world: World, scene: Scene) -> None:
    """It succeeds."""
    world.finish(scene.task, scene.task.run, "d")


def failed(world: World, scene: Scene) -> None:
    """It fails."""
    world.finish(scene.task, scene.task.run, "f")


def done_late(world: World, scene: Scene) -> None:
    """Its first run succeeds after all."""
    world.finish(scene.task, 1, "d")


def attempt_failed(world: World, scene: Scene) -> None:
    """Another attempt is to come."""
    world.attempt_failed(scene.task, scene.task.run)


def stopped(world: World, scene: Scene) -> None:
    """Its run was stopped."""
    world.stopped(scene.task, scene.task.run)


def lapse(world: World, scene: Scene) -> None:
    """Its worker is lost."""
    world.lapse(scene.task)


def lapse_for_good(world: World, scene: Scene) -> None:
    """It loses its worker once too often."""
    scene.task.lapses = 1
    world.driver.call("HSET", world.driver.key(f"s:{world.name(scene.task)}"), "cr", 1)
    world.lapse(scene.task)


def refused(world: World, scene: Scene) -> None:
    """Its row is refused."""
    world.refused(world.name(scene.task), scene.task.dispatch)


def offered(world: World, scene: Scene) -> None:
    """Its row goes out."""
    world.offered(world.name(scene.task), scene.task.dispatch)


def overdue(world: World, scene: Scene) -> None:
    """A sweeper finds its row."""
    world.overdue(world.name(scene.task), lost=False)


def lost(world: World, scene: Scene) -> None:
    """A sweeper finds its row again, the queue is empty."""
    offered(world, scene)
    world.overdue(world.name(scene.task), lost=True)


def run(world: World, scene: Scene) -> None:
    """It is started."""
    world.run(scene.root, with_message=True)


def run_target(world: World, scene: Scene) -> None:
    """What is steered is started by itself."""
    world.run(scene.target, with_message=False)


def claim(world: World, scene: Scene) -> None:
    """It becomes a member."""
    world.create(Node(kind="c", members=[Node(), scene.root]), [scene.root])


def draft(world: World, scene: Scene) -> None:
    """It becomes a member of something that is never written to its end."""
    world.draft(Node(kind="s", members=[scene.root, Node()]), [scene.root], 1, complete=False)


def age(world: World, scene: Scene) -> None:
    """It was never started."""
    world.age(scene.root)


def add(world: World, scene: Scene) -> None:
    """A member is added."""
    world.add(scene.swarm or scene.target, [Node()], run=False, close_on_max=True)


def add_and_run(world: World, scene: Scene) -> None:
    """A member is added and started."""
    world.add(scene.swarm or scene.target, [Node()], run=True, close_on_max=True)


def close(world: World, scene: Scene) -> None:
    """The swarm is closed."""
    world.close(scene.swarm or scene.target)


def abandon(world: World, scene: Scene) -> None:
    """Open swarms were left alone for too long."""
    world.work_off()
    for row in sorted(row for row in world.rows() if row.startswith("!a:")):
        world.abandon(world.nodes[row[3:]])


def held_too_long(world: World, scene: Scene) -> None:
    """Marks have stood for too long."""
    for root in world.model.timed():
        world.held_too_long(root)


def pass_time(world: World, scene: Scene) -> None:
    """What is over goes."""
    world.check()
    world.pass_time()


Event = Callable[[World, Scene], None]
EVENTS: dict[str, Sequence[Event]] = {
    "fresh": [run, run_target, claim, draft, age, add, add_and_run, close, held_too_long],
    "row": [deliver, refused, offered, overdue, lost, add, add_and_run, close, abandon, held_too_long, pass_time],
    "running": [
        *(deliver, deliver_early, done, failed, attempt_failed, stopped, lapse, lapse_for_good),
        *(add_and_run, close, abandon, run_target, held_too_long),
    ],
    "lapsed": [deliver, deliver_old, done_late, attempt_failed, stopped],
    "overtaken": [done, done_late, stopped, lapse],
    "ended": [deliver_old, done, stopped, abandon, close, pass_time],
}
PAIRS = [(state, event) for state, events in EVENTS.items() for event in events]
VERBS: dict[str, Sequence[Verb]] = {
    "suspend": ["suspend"],
    "interrupt": ["interrupt"],
    "cancel": ["cancel"],
    "remove": ["remove"],
    "suspend, resume": ["suspend", "resume"],
    "interrupt, resume": ["interrupt", "resume"],
    "suspend, interrupt": ["suspend", "interrupt"],
    "suspend, cancel": ["suspend", "cancel"],
}
"""All but the last of each were asked for before, and what came since was turned away."""
QUICK = {"suspend", "interrupt", "cancel", "interrupt, resume"}
LONG = [pytest.mark.long, pytest.mark.timeout(120)]


def bring_to(world: World, scene: Scene, state: str) -> None:
    """Let happen to the task what comes before."""
    name = world.name(scene.task)
    if state in {"running", "lapsed", "overtaken", "ended"}:
        world.deliver(name, 1, 0)
    if state == "lapsed":
        world.lapse(scene.task)
    if state == "overtaken":
        world.deliver(name, 1, 1)
    if state == "ended":
        world.finish(scene.task, 1, "d")
    world.check()


def ask(world: World, scene: Scene, verb: Verb) -> None:
    """Steer, perhaps in vain."""
    world.steer(scene.target, verb)
    world.check()


@pytest.mark.parametrize("verbs", [name if name in QUICK else pytest.param(name, marks=LONG) for name in VERBS])
@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_verb_and_event_at_the_same_moment(driver: Driver, state: str, event: Event, verbs: str) -> None:
    """Whichever comes first, scripts and model agree, and all goes to its end afterwards."""
    *earlier, last = VERBS[verbs]
    for place in PLACES:
        for verb_first in (True, False):
            world = World(driver)
            scene = place(world, started=state != "fresh")
            bring_to(world, scene, state)
            for verb in earlier:
                ask(world, scene, verb)
                if scene.task.row:
                    deliver(world, scene)
                world.check()
            if verb_first:
                ask(world, scene, last)
            event(world, scene)
            world.check()
            if not verb_first:
                ask(world, scene, last)
            wind_up(world)
