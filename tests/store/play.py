"""From bytes to events: what Hypothesis draws becomes verbs on a world, whatever the world looks like by then."""
# size: one short function for each verb that may be drawn, and what they choose from.

from __future__ import annotations

from collections.abc import Callable, Sequence

from mageflow.flow.signature import Verb
from tests.node import Node
from tests.store.map_play import add_items, create_map
from tests.store.sketch import (
    CHOICES_OF_SWITCHES,
    Numbers,
    draw_cases,
    draw_settings,
    entangles,
    nodes_of,
    reaches,
    size_of,
    sketch,
    templates,
)
from tests.store.waiting import why
from tests.store.world import World

Move = tuple[str, bytes]


def rest(world: World, numbers: Numbers) -> None:
    """Nothing happens."""


def play(world: World, moves: Sequence[Move]) -> None:
    """Make the moves; compare after each, or where that must be when continue rows are to be left lying about."""
    for verb, data in moves:
        numbers = Numbers(data)
        if verb in GROWING and len(world.ids) > 60:
            continue
        if world.lazy and verb in DRAINED:
            world.check()
        VERBS[verb](world, numbers)
        if not world.lazy:
            world.check()
        elif rows := world.driver.snapshot().continues:
            row = numbers.one(rows)
            if row is not None and numbers.chance(2):
                world.continue_(row)
    world.check()


def wind_up(world: World) -> None:
    """Bring everything to its end: no key stays but those that every namespace has."""
    world.expire_drafts()
    world.turn_away()
    world.check()
    for node in [node for node in nodes_of(world) if node.mark]:
        world.steer(node, "resume")
        world.check()
    for _ in range(60):
        if not world.model.roots:
            break
        for node in world.timers():
            world.time_comes(node)
        for node in nodes_of(world):
            _wind_up_node(world, node)
        world.check()
        world.pass_time()
        for root in world.model.never_started():
            world.age(root)
        world.check()
    left = [(world.ids[node], why(world.state, world.ids[node])) for node in nodes_of(world) if not node.ended]
    assert not world.model.roots, f"no end: {left}"
    world.driver.steer("runs", 0, *(run for run in world.state.runs if "~" in run))
    world.sweep()
    world.check()
    assert world.state.staying() == []
    assert not world.state.out
    assert not world.state.runs


def _wind_up_node(world: World, node: Node) -> None:
    if node.gone:
        return
    if node.row and world.ids[node] in world.rows():
        world.deliver(world.ids[node], node.dispatch, node.attempts)
        world.turn_away()
    for run in [*node.overtaken]:
        world.stopped(node, run)
    if node.running and node.ended:
        world.stopped(node, node.run)
    elif node.running:
        _report(world, node, node.run, Numbers(b""), fails=2)
    elif node.status == "a" and node.opened_by == "member":
        world.work_off()
        world.run(node, with_message=False)
    elif node.status == "a" and node.kind == "s" and not node.closed:
        world.work_off()
        world.close(node)


# Creating.


def _write(world: World, root: Node, claimed: list[Node], numbers: Numbers) -> None:
    if root.members and numbers.chance(5):
        world.draft(root, claimed, 1 + numbers.below(4), complete=numbers.chance(2))
    else:
        world.create(root, claimed)


def create(world: World, numbers: Numbers) -> None:
    """A new signature of any shape."""
    root = sketch(world, numbers, 3)
    _write(world, root, [], numbers)


def begin(world: World, numbers: Numbers) -> None:
    """A new container is started at once."""
    if numbers.chance(3):
        world.create(sketch(world, numbers, 1))
    root = Node(kind="scsw"[numbers.below(4)], success=templates(world, numbers), failure=templates(world, numbers))
    root.members = [sketch(world, numbers, 2) for _ in range(2 + numbers.below(3))]
    if root.kind == "s":
        draw_settings(root, numbers)
    draw_cases(root)
    world.create(root)
    world.run(root, with_message=False)


def container(world: World, numbers: Numbers) -> None:
    """A new container of new and existing signatures."""
    kind = "csw"[numbers.below(3)]
    root = Node(kind=kind, success=templates(world, numbers), failure=templates(world, numbers))
    free = nodes_of(world) if numbers.chance(8) else world.model.unstarted()
    claimed: list[Node] = []
    for _ in range(2 + numbers.below(2)):
        member = numbers.one(free)
        if member is None or member in claimed or numbers.chance(3):
            member = sketch(world, numbers, 1)
        else:
            claimed.append(member)
        root.members.append(member)
    if kind == "s":
        draw_settings(root, numbers)
    draw_cases(root)
    _write(world, root, claimed, numbers)


def run(world: World, numbers: Numbers) -> None:
    """Start something."""
    nodes = world.model.unstarted() if not numbers.chance(2) else nodes_of(world)
    if node := numbers.one(nodes):
        world.run(node, with_message=numbers.chance(2), delayed=numbers.chance(4))


def time_comes(world: World, numbers: Numbers) -> None:
    """The time of a delayed start has come."""
    if root := numbers.one(world.timers()):
        world.time_comes(root)


def run_member(world: World, numbers: Numbers) -> None:
    """Start a member of a swarm."""
    members = [node for node in nodes_of(world) if node.container is not None and node.container.kind == "s"]
    if node := numbers.one([member for member in members if not member.told] or members):
        world.run(node, with_message=numbers.chance(2), delayed=numbers.chance(8))


def add(world: World, numbers: Numbers) -> None:
    """Add to a swarm."""
    nodes = nodes_of(world)
    swarms = [node for node in nodes if node.kind == "s" and not node.closed and not node.ended]
    swarm = numbers.one(nodes if not swarms or numbers.chance(6) else swarms)
    if swarm is None:
        return
    members: list[Node] = []
    for _ in range(1 + numbers.below(2)):
        free = nodes_of(world) if numbers.chance(8) else world.model.unstarted()
        free = [node for node in free if node not in members]
        member = numbers.one(free) if numbers.chance(3) else None
        members.append(member if member is not None else sketch(world, numbers, 2))
    named = any(world.model.references().get(node) for node in (swarm, *swarm.above))
    if any(reaches(member, node) for member in members for node in (swarm, *swarm.above) if member is not node):
        return
    if any(entangles(swarm, member) for member in members):
        return
    if named and (len(swarm.members) > 3 or max(map(size_of, members)) > 2):
        return
    world.add(swarm, members, run=not numbers.chance(2), close_on_max=not numbers.chance(3))


def close(world: World, numbers: Numbers) -> None:
    """Close a swarm."""
    nodes = nodes_of(world)
    swarms = [node for node in nodes if node.kind == "s" and not node.closed and not node.ended]
    if swarm := numbers.one(nodes if not swarms or numbers.chance(6) else swarms):
        world.close(swarm)


# Running.


def _report(world: World, task: Node, run: int, numbers: Numbers, *, fails: int) -> None:
    """A run succeeds, or fails in one of so many cases; one with a plan returns a signature."""
    status = "f" if numbers.chance(fails) else "d"
    planned = [] if task.plan is None else [*task.plan.tree()]
    there = not any(template.gone for node in planned for template in (*node.success, *node.failure))
    if status == "d" and task.plan is not None and there and not task.checking:
        made = world.model.copy(task.plan)
        world.create(made)
        world.replace(task, run, made, check=numbers.chance(3))
        return
    world.finish(
        task, run, status, choice=CHOICES_OF_SWITCHES[numbers.below(5)] if status == "d" and task.below_chooser else ""
    )


def _rows(world: World) -> list[Node]:
    standing = world.rows()
    return [node for node in nodes_of(world) if node.row and world.ids[node] in standing]


def _running(world: World) -> list[Node]:
    return [node for node in nodes_of(world) if node.running]


def deliver(world: World, numbers: Numbers) -> None:
    """A row is delivered; that it was turned away may be noted later."""
    if task := numbers.one(_rows(world)):
        world.deliver(world.ids[task], task.dispatch, task.attempts)
        if not numbers.chance(3):
            world.turn_away()


def step(world: World, numbers: Numbers) -> None:
    """A row is delivered, its task succeeds or fails."""
    if task := numbers.one(_rows(world)):
        status = world.deliver(world.ids[task], task.dispatch, task.attempts)
        if status == "run":
            _report(world, task, task.run, numbers, fails=5)
        world.turn_away()


def steps(world: World, numbers: Numbers) -> None:
    """Some rows are delivered, most of their tasks succeed."""
    for _ in range(2 + numbers.below(6)):
        step(world, numbers)


def deliver_any(world: World, numbers: Numbers) -> None:
    """A delivery of any age comes, perhaps after its lease has lapsed."""
    if numbers.chance(12):
        world.deliver("nobody", 1, 0)
    elif delivery := numbers.one(world.deliveries):
        identifier, dispatch, attempts = delivery
        if identifier in world.nodes:
            world.deliver(identifier, dispatch, attempts + numbers.chance(6), lapsed=numbers.chance(4))


def finish(world: World, numbers: Numbers) -> None:
    """A run ends."""
    if task := numbers.one(_running(world)):
        _report(world, task, task.run, numbers, fails=3)


def _what_replaces(world: World, numbers: Numbers, task: Node) -> Node | None:
    """What a task returns: most often something new, now and then what cannot replace it."""
    sort = numbers.below(12)
    if sort >= 10:
        return numbers.one(nodes_of(world))
    if sort >= 7:
        roots = [root for root in world.model.roots if root in world.ids and not (root.gone or root.owned)]
        return numbers.one([root for root in roots if root is not task.root] or roots)
    if len(world.ids) > 60:
        return None
    made = sketch(world, numbers, 2)
    world.create(made)
    return made


def _replace(world: World, numbers: Numbers, task: Node, run: int) -> None:
    """A run returns a signature; one that checks a result calls no function, so it cannot."""
    if task.checking:
        _report(world, task, run, numbers, fails=3)
        return
    by = _what_replaces(world, numbers, task)
    if by is not None and not entangles(task, by):
        world.replace(task, run, by, check=numbers.chance(3))


def replace(world: World, numbers: Numbers) -> None:
    """A run returns a signature."""
    running = [(task, task.run) for task in _running(world)]
    if accepted := numbers.one(world.accepted if numbers.chance(6) else running):
        _replace(world, numbers, *accepted)


def plan(world: World, numbers: Numbers) -> None:
    """A row is delivered, its task returns a signature."""
    if task := numbers.one(_rows(world)):
        if world.deliver(world.ids[task], task.dispatch, task.attempts) == "run":
            _replace(world, numbers, task, task.run)
        world.turn_away()


def finish_any(world: World, numbers: Numbers) -> None:
    """A run of any age reports its outcome, perhaps for the second time."""
    if accepted := numbers.one(world.accepted):
        _report(world, *accepted, numbers, fails=3)


def attempt_failed(world: World, numbers: Numbers) -> None:
    """An attempt fails."""
    running = [(task, task.run) for task in _running(world)]
    if accepted := numbers.one(world.accepted if numbers.chance(4) else running):
        world.attempt_failed(*accepted)


def stopped(world: World, numbers: Numbers) -> None:
    """A run is over that was told to stop."""
    running = [(task, task.run) for task in _running(world)]
    ended = [(task, task.run) for task in _running(world) if task.ended]
    if accepted := numbers.one(world.accepted if numbers.chance(4) else ended or running):
        world.stopped(*accepted)


def lapse(world: World, numbers: Numbers) -> None:
    """A worker dies."""
    if task := numbers.one(_running(world)):
        world.lapse(task)


def offered(world: World, numbers: Numbers) -> None:
    """A row goes out to the task manager."""
    if numbers.chance(4) and (delivery := numbers.one(world.deliveries)):
        if delivery[0] in world.nodes:
            world.offered(*delivery[:2])
    elif task := numbers.one(_rows(world)):
        world.offered(world.ids[task], task.dispatch)


def overdue(world: World, numbers: Numbers) -> None:
    """A row has not started in time."""
    if task := numbers.one(_rows(world)):
        world.overdue(world.ids[task], lost=numbers.chance(2))


def refused(world: World, numbers: Numbers) -> None:
    """The task manager takes a row for ever out."""
    if numbers.chance(3) and (delivery := numbers.one(world.deliveries)):
        if delivery[0] in world.nodes:
            world.refused(*delivery[:2])
    elif task := numbers.one(_rows(world)):
        world.refused(world.ids[task], task.dispatch)


# Steering.


def steer(world: World, numbers: Numbers) -> None:
    """Steer anything, perhaps twice."""
    verb = VERBS_OF_STEERING[(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 3, 3, 4)[numbers.below(16)]]
    nodes = nodes_of(world)
    living = [node for node in nodes if not node.over]
    started = [node for node in living if node.root.told]
    if numbers.chance(2):
        started = [node for node in started if node.kind != "t"] or started
    target = numbers.one(started or living) if living and not numbers.chance(6) else numbers.one(nodes)
    marked = [node for node in living if node.mark]
    if verb == "resume" and marked and not numbers.chance(4):
        target = numbers.one(marked)
    if target is not None:
        for _ in range(1 + numbers.chance(5)):
            world.steer(target, verb)
            world.check()


def turn_away(world: World, numbers: Numbers) -> None:
    """Deliveries that were turned away are taken note of."""
    world.turn_away()


def beat(world: World, numbers: Numbers) -> None:
    """A worker learns what is to stop."""
    world.beat()


def held_too_long(world: World, numbers: Numbers) -> None:
    """The time limit of a mark is over."""
    if root := numbers.one(world.model.timed()):
        world.held_too_long(root)


# Time.


def abandon(world: World, numbers: Numbers) -> None:
    """An open swarm stays idle for too long."""
    if swarm := numbers.one([node for node in nodes_of(world) if node.idle]):
        world.abandon(swarm)


def age(world: World, numbers: Numbers) -> None:
    """Something that was never started gets old."""
    if root := numbers.one(world.model.never_started()):
        world.age(root)


def pass_time(world: World, numbers: Numbers) -> None:
    """What is over goes."""
    world.pass_time()


def expire_drafts(world: World, numbers: Numbers) -> None:
    """Half written blocks are taken back."""
    world.expire_drafts()


VERBS_OF_STEERING: Sequence[Verb] = ("suspend", "resume", "interrupt", "cancel", "remove")
GROWING = {"create", "begin", "container", "add", "create_map", "add_items"}
DRAINED = {
    "create",
    "container",
    "create_map",
    "add_items",
    "run",
    "run_member",
    "add",
    "close",
    "abandon",
    "age",
    "pass_time",
}
VERBS: dict[str, Callable[[World, Numbers], None]] = {
    verb.__name__: verb
    for verb in (
        rest,
        create,
        container,
        run,
        run_member,
        time_comes,
        add,
        close,
        deliver,
        step,
        steps,
        deliver_any,
        finish,
        replace,
        plan,
        finish_any,
    )
} | {
    verb.__name__: verb
    for verb in (attempt_failed, stopped, lapse, offered, overdue, refused, abandon, age, pass_time, expire_drafts)
}
WEIGHTS = {
    "create": 5,
    "container": 4,
    "run": 5,
    "run_member": 2,
    "add": 3,
    "close": 2,
    "deliver": 5,
    "step": 8,
    "finish": 5,
    "replace": 3,
    "plan": 7,
}
CHOICES = [verb for verb in VERBS for _ in range(WEIGHTS.get(verb, 1))]
VERBS.update({verb.__name__: verb for verb in (begin, steer, turn_away, beat, held_too_long)})
STEERED_WEIGHTS = {
    "create": 2,
    "container": 2,
    "begin": 5,
    "run": 2,
    "run_member": 3,
    "time_comes": 4,
    "add": 4,
    "close": 2,
    "deliver": 14,
    "step": 5,
    "steps": 2,
    "finish": 12,
    "replace": 4,
    "plan": 10,
    "steer": 22,
    "turn_away": 3,
    "overdue": 3,
    "attempt_failed": 2,
    "stopped": 4,
    "lapse": 2,
    "deliver_any": 2,
    "finish_any": 2,
}
STEERED_CHOICES = [verb for verb in VERBS for _ in range(STEERED_WEIGHTS.get(verb, 1))]
VERBS.update({verb.__name__: verb for verb in (create_map, add_items)})
MAP_CHOICES = [*CHOICES, *["create_map"] * 16, *["add_items"] * 6]
STEERED_MAP_CHOICES = [*STEERED_CHOICES, *["create_map"] * 16, *["add_items"] * 6]
