"""From bytes to events under steering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mageflow.flow.signature import Add, Change, Close, Run, Steer
from tests.node import Node
from tests.store import play
from tests.store.play import Move
from tests.store.sketch import Numbers, sketch
from tests.store.snapshot import ENDED
from tests.store.steering import Steered
from tests.store.world import START_TIMEOUT

Event = Callable[[Steered, Numbers], None]


def play_steered(flows: Steered, moves: Sequence[Move], events: Mapping[str, Event]) -> None:
    """Make the moves, look at the state after each."""
    flows.look(settled=True)
    for name, data in moves:
        numbers = Numbers(data)
        events[name](flows, numbers)
        flows.look(settled=False)
        if (row := numbers.one(flows.state.continues)) is not None and numbers.chance(2):
            flows.world.continue_(row)
            flows.look(settled=False)
    flows.turn_away()
    flows.look(settled=True)


def wind_up(flows: Steered) -> None:
    """Take every mark away and let everything end: nothing is left."""
    flows.world.expire_drafts()
    flows.look(settled=True)
    for identifier, record in flows.state.records.items():
        if record.get("mk") in {"s", "i"}:
            flows.ask(Steer(id=identifier, verb="resume"))
            flows.look(settled=True)
    for _ in range(80):
        if not flows.state.records:
            break
        _wind_up_once(flows)
        flows.look(settled=True)
        flows.world.driver.vanish()
        if unstarted := [*flows.world.driver.snapshot().scores.get("ix:p", {})]:
            flows.world.driver.steer("ix:p", 0, *unstarted)
            flows.world.sweep()
        flows.look(settled=True)
    assert not flows.state.records, f"no end: {flows.state.records}"
    assert flows.state.staying() == [], flows.state.staying()
    assert not flows.state.out, flows.state.out
    assert not flows.state.runs


def _wind_up_once(flows: Steered) -> None:
    for identifier in flows.rows():
        record = flows.state.record(identifier)
        flows.deliver(identifier, int(record.get("d", "0")), int(record.get("a", "0")))
    flows.look(settled=True)
    for identifier in flows.state.runs:
        run = int(flows.state.record(identifier)["n"])
        if flows.state.status(identifier) in ENDED:
            flows.world.note(flows.world.driver.run("stopped", identifier, run))
        else:
            flows.finish(identifier, run, "d")
    flows.look(settled=True)
    for identifier, record in flows.state.records.items():
        if record["k"] == "s" and record["st"] == "a":
            if record.get("own") == "0":
                flows.ask(Run(id=identifier))
            elif record.get("cl") != "1":
                flows.ask(Close(id=identifier))


# Events.


def create(flows: Steered, numbers: Numbers) -> None:
    """Write a signature."""
    if len(flows.state.records) <= 60:
        flows.look(settled=True)
        play.create(flows.world, numbers)


def container(flows: Steered, numbers: Numbers) -> None:
    """Write a container, perhaps of what is there."""
    if len(flows.state.records) <= 60:
        flows.look(settled=True)
        play.container(flows.world, numbers)


def _any(flows: Steered, numbers: Numbers, kinds: str = "tcsw") -> str | None:
    return numbers.one([i for i, record in flows.known().items() if record["k"] in kinds])


def _live(flows: Steered, numbers: Numbers, kinds: str = "tcsw") -> str | None:
    found = [i for i, r in flows.known().items() if r["k"] in kinds and flows.state.status(i) not in ENDED]
    return numbers.one(found) if found and not numbers.chance(6) else _any(flows, numbers, kinds)


def run(flows: Steered, numbers: Numbers) -> None:
    """Start something."""
    fresh = [i for i, r in flows.known().items() if r["st"] == "p" and "rd" not in r and "c" not in r]
    if identifier := numbers.one(fresh) if not numbers.chance(3) else _any(flows, numbers):
        flows.ask(Run(id=identifier))


def run_member(flows: Steered, numbers: Numbers) -> None:
    """Start a member of a swarm."""
    records = flows.known()
    fresh = [i for i, r in records.items() if records.get(r.get("c", ""), {}).get("k") == "s" and "rd" not in r]
    if identifier := numbers.one(fresh):
        flows.ask(Run(id=identifier))


def add(flows: Steered, numbers: Numbers) -> None:
    """Add new tasks or a chain to a swarm."""
    if (swarm := _live(flows, numbers, "s")) is None or len(flows.state.records) > 60:
        return
    world, changes, ids = flows.world, list[Change](), list[str]()
    target = Node(kind="s")
    world.ids[target] = swarm
    for _ in range(1 + numbers.below(2)):
        member = Node(kind="c", members=[Node(), Node()]) if numbers.chance(3) else Node()
        changes += [*world.parts(member), world.new(member, target)]
        ids.append(world.name(member))
    flows.ask(*changes, Add(swarm=swarm, ids=ids, run=not numbers.chance(2), close_on_max=False))


def close(flows: Steered, numbers: Numbers) -> None:
    """Close a swarm."""
    if swarm := _live(flows, numbers, "s"):
        flows.ask(Close(id=swarm))


def steer(flows: Steered, numbers: Numbers) -> None:
    """Steer anything, perhaps twice."""
    verb = play.VERBS_OF_STEERING[(0, 1, 2, 3, 0, 1, 2, 1, 0, 4)[numbers.below(10)]]
    target = _live(flows, numbers)
    marked = [i for i, record in flows.known().items() if record.get("mk") in {"s", "i"}]
    if verb == "resume" and marked and not numbers.chance(4):
        target = numbers.one(marked)
    if target is not None:
        for _ in range(1 + numbers.chance(5)):
            flows.ask(Steer(id=target, verb=verb))


def deliver(flows: Steered, numbers: Numbers) -> None:
    """Rows are delivered; what is turned away may be taken note of later."""
    for _ in range(1 + numbers.below(3)):
        if identifier := numbers.one(flows.rows()):
            record = flows.state.record(identifier)
            flows.deliver(identifier, int(record["d"]), int(record.get("a", "0")), patient=numbers.chance(3))


def deliver_any(flows: Steered, numbers: Numbers) -> None:
    """A delivery of any age comes."""
    if delivery := numbers.one(flows.deliveries):
        flows.deliver(*delivery)


def turn_away(flows: Steered, numbers: Numbers) -> None:
    """What was turned away is taken note of."""
    flows.turn_away()


def step(flows: Steered, numbers: Numbers) -> None:
    """Rows are delivered, their tasks end."""
    for _ in range(1 + numbers.below(4)):
        if identifier := numbers.one(flows.rows()):
            record = flows.state.record(identifier)
            if flows.deliver(identifier, int(record["d"]), int(record.get("a", "0"))) == "run":
                flows.finish(identifier, int(record.get("n", "0")) + 1, "f" if numbers.chance(5) else "d")
            flows.look(settled=False)


def running(flows: Steered, numbers: Numbers) -> tuple[str, int] | None:
    """Choose a run, now and then one of any age."""
    running = [(i, int(flows.state.record(i)["n"])) for i in flows.state.runs if i in flows.state.records]
    return numbers.one(flows.accepted if numbers.chance(5) else running)


def finish(flows: Steered, numbers: Numbers) -> None:
    """A run reports its outcome."""
    if accepted := running(flows, numbers):
        flows.finish(*accepted, "f" if numbers.chance(3) else "d")


def _what_replaces(flows: Steered, numbers: Numbers, identifier: str) -> str:
    """What a task returns: most often something new, now and then what cannot replace it."""
    sort = numbers.below(12)
    if sort == 11:
        return identifier
    if sort == 10:
        return flows.top(identifier)
    if sort == 9 and (any_ := numbers.one([*flows.known()])):
        return any_
    roots = [i for i, r in flows.known().items() if not {"c", "o"} & {*r}]
    if sort >= 6 and (other := numbers.one(roots)):
        return other
    made = sketch(flows.world, numbers, 2)
    flows.world.create(made)
    return flows.world.name(made)


def _replace(flows: Steered, numbers: Numbers, identifier: str, run: int) -> None:
    if len(flows.state.records) <= 60:
        flows.look(settled=True)
        by = _what_replaces(flows, numbers, identifier)
        flows.look(settled=False)
        flows.replace(identifier, run, by, check=numbers.chance(3))


def replace(flows: Steered, numbers: Numbers) -> None:
    """A run returns a signature."""
    if accepted := running(flows, numbers):
        _replace(flows, numbers, *accepted)


def plan(flows: Steered, numbers: Numbers) -> None:
    """A row is delivered, its task returns a signature."""
    if identifier := numbers.one(flows.rows()):
        record = flows.state.record(identifier)
        if flows.deliver(identifier, int(record["d"]), int(record.get("a", "0"))) == "run":
            _replace(flows, numbers, identifier, int(record.get("n", "0")) + 1)


def stopped(flows: Steered, numbers: Numbers) -> None:
    """A run that was told to stop is over."""
    if accepted := running(flows, numbers):
        flows.world.note(flows.world.driver.run("stopped", *accepted))


def attempt_failed(flows: Steered, numbers: Numbers) -> None:
    """An attempt fails."""
    if accepted := running(flows, numbers):
        flows.attempt_failed(*accepted)


def lapse(flows: Steered, numbers: Numbers) -> None:
    """A worker dies."""
    if identifier := numbers.one([*flows.state.runs]):
        flows.lapse(identifier)


def overdue(flows: Steered, numbers: Numbers) -> None:
    """Rows are due again."""
    if identifier := numbers.one(flows.rows()):
        flows.world.driver.steer("out", 0, identifier)
        flows.world.sweep(queue_empty=numbers.chance(2))


def offered(flows: Steered, numbers: Numbers) -> None:
    """A row goes out to the task manager."""
    if identifier := numbers.one(flows.rows()):
        flows.world.driver.run("offered", START_TIMEOUT, identifier, flows.state.record(identifier)["d"], "")


def refused(flows: Steered, numbers: Numbers) -> None:
    """The task manager takes a row for ever out."""
    if identifier := numbers.one(flows.rows()):
        dispatch = flows.state.record(identifier)["d"]
        flows.world.note(flows.world.driver.run("refused", identifier, dispatch, '{"type":"Refused","message":""}'))


def abandon(flows: Steered, numbers: Numbers) -> None:
    """Open swarms stay as they are for too long."""
    for row in [row for row in flows.state.out if row.startswith("!a:")]:
        flows.world.driver.call("HSET", flows.world.driver.key(f"s:{row[3:]}"), "ac", 0)
        flows.world.continue_(row)


def suspended_too_long(flows: Steered, numbers: Numbers) -> None:
    """A root stays suspended for too long."""
    if row := numbers.one([row for row in flows.state.out if row.startswith("!u:")]):
        flows.world.continue_(row)


def pass_time(flows: Steered, numbers: Numbers) -> None:
    """What is over goes."""
    flows.look(settled=True)
    flows.world.driver.vanish()


_LIST: Sequence[Event] = (
    *(create, container, run, run_member, add, close, steer, deliver, deliver_any, turn_away, step, finish, stopped),
    *(replace, plan, attempt_failed, lapse, overdue, offered, refused, abandon, suspended_too_long, pass_time),
)
EVENTS = {event.__name__: event for event in _LIST}
WEIGHTS = {
    "create": 4,
    "container": 3,
    "run": 5,
    "steer": 12,
    "deliver": 6,
    "step": 5,
    "finish": 4,
    "stopped": 2,
    "add": 2,
    "run_member": 2,
    "replace": 2,
    "plan": 6,
}
CHOICES = [event for event in EVENTS for _ in range(WEIGHTS.get(event, 1))]
