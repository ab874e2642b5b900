"""From bytes to events in flows with switches, of tasks that return signatures."""

from __future__ import annotations

from mageflow.flow.signature import Run
from tests.store import steering_play
from tests.store.play import Numbers
from tests.store.replacing import Replacing
from tests.store.steering import Steered


def _room(flows: Replacing) -> bool:
    return len(flows.state.records) <= 40


def create(flows: Steered, numbers: Numbers) -> None:
    """A new signature of any shape, most often started at once."""
    assert isinstance(flows, Replacing)
    if _room(flows):
        identifier = flows.write(numbers, "tcswws"[numbers.below(6)], 3)
        if not numbers.chance(3):
            flows.ask(Run(id=identifier))


def task(flows: Steered, numbers: Numbers) -> None:
    """A new task that nobody starts."""
    assert isinstance(flows, Replacing)
    if _room(flows):
        flows.write(numbers, "t", 1)


def _what_returns(flows: Replacing, numbers: Numbers, identifier: str) -> str:
    """What a task returns: most often something new, now and then what cannot replace it."""
    sort = numbers.below(12)
    if sort == 10:
        return "nobody"
    if sort == 11:
        return identifier
    if sort == 9:
        return flows.top(identifier)
    if sort >= 7 and (any_ := numbers.one([*flows.known()])):
        return any_
    roots = [i for i, r in flows.known().items() if not {"c", "o"} & {*r}]
    if sort >= 4 and (other := numbers.one(roots)):
        return other
    return flows.write(numbers, "ttcsw"[numbers.below(5)], 2) if _room(flows) else "nobody"


def replace(flows: Steered, numbers: Numbers) -> None:
    """A run returns a signature."""
    assert isinstance(flows, Replacing)
    if accepted := steering_play.running(flows, numbers):
        by = _what_returns(flows, numbers, accepted[0])
        flows.look(settled=False)
        flows.replace(*accepted, by, check=numbers.chance(3))


def plan(flows: Steered, numbers: Numbers) -> None:
    """Rows are delivered, their tasks return signatures."""
    assert isinstance(flows, Replacing)
    for _ in range(1 + numbers.below(3)):
        if identifier := numbers.one(flows.rows()):
            record = flows.state.record(identifier)
            if flows.deliver(identifier, int(record["d"]), int(record.get("a", "0"))) == "run":
                by = _what_returns(flows, numbers, identifier)
                flows.replace(identifier, int(record.get("n", "0")) + 1, by, check=numbers.chance(3))
            flows.look(settled=False)


def age(flows: Steered, numbers: Numbers) -> None:
    """What was never started is forgotten."""
    if identifier := numbers.one([*flows.state.scores.get("ix:p", {})]):
        flows.world.driver.steer("ix:p", 0, identifier)
        flows.world.sweep()


_BASE = {name: event for name, event in steering_play.EVENTS.items() if name not in {"create", "container"}}
EVENTS = _BASE | {event.__name__: event for event in (create, task, replace, plan, age)}
WEIGHTS = steering_play.WEIGHTS | {"create": 5, "replace": 3, "plan": 6, "finish": 5, "step": 6}
CHOICES = [event for event in EVENTS for _ in range(WEIGHTS.get(event, 1))]
