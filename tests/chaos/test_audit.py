"""The audit finds nothing in a quiet run, and every kind of fault that is planted in a copy of its evidence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator

import pytest
import pytest_asyncio

from tests.chaos.audit import audit
from tests.chaos.chaos import Plan, run_chaos
from tests.chaos.evidence import (
    Break,
    Evidence,
    Execution,
    Freeze,
    Leave,
    Made,
    Outage,
    Outcome,
    Steering,
    parse_records,
)
from tests.chaos.load import Node


def _flows() -> tuple[Node, ...]:
    """Return a bounded swarm that fires a task, a chain that fails early, and a task that creates others."""
    swarm = Node(name="swarm", kind="s", members=[Node(name=f"member{n}") for n in range(4)], bound=2)
    swarm.success = [Node(name="callback")]
    chain = Node(name="chain", kind="c", members=[Node(name="first", failures=1), Node(name="second")])
    spawn = Node(name="spawn", task="spawn", spawns=[Node(name="child")])
    return swarm, chain, spawn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """The evidence of flows that nobody disturbed."""
    plan = Plan(seed="quiet", tasks=100, seconds=0.1, kinds=frozenset(), workers=1, patience=20, flows=_flows())
    report = await run_chaos(plan, tmp_path_factory.mktemp("quiet"))
    assert report.lost_workers == []
    return report.evidence


class Planted:
    """A copy of the evidence to plant faults in, with what to plant them on."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = copy.deepcopy(evidence)
        self.state = self.evidence.state
        self.executions = self.evidence.executions_by_id()

    def nodes(self) -> Iterator[Node]:
        """Yield every signature that is no callback."""
        for flow in self.evidence.flows:
            yield from flow.walk()

    def done_task(self) -> Node:
        """Return a task that is done after one execution."""
        return next(n for n in self.nodes() if n.kind == "t" and self.status(n) == "d" and not n.failures)

    def failed_chain(self) -> Node:
        """Return a chain that failed before its last member."""
        chains = (n for n in self.nodes() if n.kind == "c" and self.status(n) == "f")
        return next(n for n in chains if self.status(n.members[-1]) == "c" and n.members[-1].kind == "t")

    def firing(self) -> Node:
        """Return a signature that is done and fired a task."""
        return next(n for n in self.nodes() if self.status(n) == "d" and n.success and n.success[0].kind == "t")

    def done_swarm(self) -> Node:
        """Return a bounded swarm with two members that are done tasks."""
        swarms = (n for n in self.nodes() if n.kind == "s" and n.bound and self.status(n) == "d")
        return next(n for n in swarms if len(self.done_members(n)) > (n.bound or 0))

    def done_members(self, swarm: Node) -> list[Node]:
        """Return the done tasks among the members."""
        return [m for m in swarm.members if m.kind == "t" and self.status(m) == "d"]

    def status(self, node: Node) -> str:
        """Return the recorded status."""
        return self.state.record(node.id)["st"]

    def again(self, execution: Execution, **changes: float | str | None) -> Execution:
        """Add another execution like this one, a little later."""
        later = copy.copy(execution)
        later.run, later.began = execution.run + 1, (execution.ended or execution.began) + 0.1
        later.ended = later.began + 0.1
        for name, value in changes.items():
            setattr(later, name, value)
        self.evidence.executions.append(later)
        return later


def _wrong_outcome(planted: Planted) -> None:
    planted.evidence.outcomes[planted.evidence.flows[0].name] = Outcome(status="c")


def _no_outcome(planted: Planted) -> None:
    del planted.evidence.outcomes[planted.evidence.flows[0].name]


def _lost_record(planted: Planted) -> None:
    identifier = planted.done_task().id
    del planted.state.records[identifier]
    del planted.state.hashes[f"s:{identifier}"]


def _stalled(planted: Planted) -> None:
    planted.state.record(planted.evidence.flows[0].id)["st"] = "a"


def _wrong_end(planted: Planted) -> None:
    planted.state.record(planted.done_task().id)["st"] = "f"


def _wrong_result(planted: Planted) -> None:
    identifier = planted.done_task().id
    home = planted.state.record(identifier).get("c", identifier)
    stored = planted.state.hashes[f"b:{home}"]
    stored[f"{identifier}:r"] = json.dumps({"name": "another", "after": ""})


def _never_ran(planted: Planted) -> None:
    identifier = planted.done_task().id
    planted.evidence.executions = [e for e in planted.evidence.executions if e.id != identifier]


def _lost_member(planted: Planted) -> None:
    planted.state.lists[f"m:{planted.done_swarm().id}"].pop()


def _swapped_members(planted: Planted) -> None:
    planted.state.lists[f"m:{planted.done_swarm().id}"].reverse()


def _skipped_member_ran(planted: Planted) -> None:
    member = planted.failed_chain().members[-1]
    planted.again(planted.evidence.executions[0], id=member.id, name=member.name, end="ended")


def _skipped_member_done(planted: Planted) -> None:
    planted.state.record(planted.failed_chain().members[-1].id)["st"] = "d"


def _callback_not_fired(planted: Planted) -> None:
    planted.state.lists[f"c:{planted.firing().id}"].clear()


def _callback_fired_twice(planted: Planted) -> None:
    node = next(n for n in planted.nodes() if len(planted.state.entries("c", n.id)) == 1)
    planted.state.lists[f"c:{node.id}"] *= 2


def _callback_of_another(planted: Planted) -> None:
    [copied, *_] = planted.state.entries("c", planted.firing().id)
    planted.state.record(copied)["o"] = "ANOTHER"


def _second_copy_ran(planted: Planted) -> None:
    [copied, *_] = planted.state.entries("c", planted.firing().id)
    planted.again(planted.executions[copied][0], id="01ANOTHER")


def _wrong_message(planted: Planted) -> None:
    for execution in planted.executions[planted.done_task().id]:
        execution.name = "another"


def _ran_twice(planted: Planted) -> None:
    planted.again(planted.executions[planted.done_task().id][0])


def _stopped_at_last(planted: Planted) -> None:
    identifier = planted.done_task().id
    planted.evidence.deaths[planted.executions[identifier][0].process] = 0.0
    planted.again(planted.executions[identifier][0], end="stopped")


def _too_many_at_once(planted: Planted) -> None:
    for member in planted.done_members(planted.done_swarm()):
        execution = planted.executions[member.id][0]
        execution.began, execution.ended = 1.0, 2.0


def _row_left(planted: Planted) -> None:
    planted.state.scores.setdefault("out", {})[planted.evidence.flows[0].id] = 1.0


def _run_left(planted: Planted) -> None:
    planted.state.scores.setdefault("runs", {})[planted.evidence.flows[0].id] = 1.0


def _slot_left(planted: Planted) -> None:
    planted.state.sets["l:01SWARM"] = {"01MEMBER"}


def _key_stays(planted: Planted) -> None:
    planted.state.expiring.remove(f"s:{planted.evidence.flows[0].id}")


def _listed(planted: Planted) -> None:
    planted.state.scores.setdefault("ix:p", {})[planted.evidence.flows[0].id] = 1.0


def _cancel(planted: Planted, node: Node, status: str = "c") -> None:
    planted.evidence.steering.append(Steering(verb="cancel", id=node.id, began=0.0, ended=0.0))
    planted.state.record(node.id)["st"] = status


def _began_after_cancel(planted: Planted) -> None:
    member = planted.failed_chain().members[-1]
    _cancel(planted, member)
    planted.again(planted.evidence.executions[0], id=member.id, name=member.name, end="stopped", began=10.0**6)


def _canceled_fired(planted: Planted) -> None:
    _cancel(planted, planted.firing())


def _canceled_unheard(planted: Planted) -> None:
    chains = (n for n in planted.nodes() if n.kind == "c" and planted.status(n) == "d")
    _cancel(planted, next(chains).members[-1])


def _canceled_untold(planted: Planted) -> None:
    flow = planted.evidence.flows[0]
    _cancel(planted, flow)
    planted.evidence.outcomes[flow.name] = Outcome(status="f")


def _cut_off_by_leave(planted: Planted) -> None:
    cut = planted.executions[planted.done_task().id][0]
    cut.end = None
    planted.evidence.leaves.append(Leave(process=cut.process, began=0.0, ended=cut.began + 1, code=0))


def _broke(planted: Planted) -> None:
    planted.evidence.breaks.append(Break(process=1, own=2, at=100.0, error="ValueError()"))


def _ran_after_long_dead(planted: Planted) -> None:
    first = planted.executions[planted.done_task().id][0]
    assert first.ended is not None
    planted.again(first, began=first.ended + 20)
    planted.evidence.deaths[first.process] = first.ended + 10


def _left_in_error(planted: Planted) -> None:
    planted.evidence.leaves.append(Leave(process=1, began=0.0, ended=1.0, code=1))


def _slow_recovery(planted: Planted) -> None:
    first = planted.executions[planted.done_task().id][0]
    planted.again(first, began=first.began + 11)
    planted.evidence.deaths[first.process] = first.began + 0.5
    first.end = first.ended = None


def _created_twice(planted: Planted) -> None:
    made = next(made for made in planted.evidence.made if made.name == "child")
    planted.evidence.made.append(Made(by=made.by, name=made.name, id="01ANOTHER"))


def _created_nothing(planted: Planted) -> None:
    planted.evidence.made.clear()


def _created_and_left(planted: Planted) -> None:
    [made, *_] = [made for made in planted.evidence.made if made.name == "child"]
    planted.state.record(made.id)["st"] = "p"


def _stalled_for_a_moment(planted: Planted) -> None:
    planted.evidence.stalls.append("f0.1")


def _to_be_repaired(planted: Planted) -> None:
    planted.evidence.found.append("orphan b:01ANOTHER")


def _outlived(planted: Planted) -> None:
    planted.evidence.left.append("s:01ANOTHER")


_PLANTS: dict[str, Callable[[Planted], None]] = {
    "its caller was told Outcome": _wrong_outcome,
    "its caller was told nothing": _no_outcome,
    "there is no record": _lost_record,
    "stalled,": _stalled,
    "ended as f, not d": _wrong_end,
    "the result of": _wrong_result,
    "but its executions ended as []": _never_ran,
    "the members of": _lost_member,
    "the members of ": _swapped_members,
    "behind a failed member ran": _skipped_member_ran,
    "behind a failed member reads": _skipped_member_done,
    "fired 0 copies": _callback_not_fired,
    "fired 2 copies": _callback_fired_twice,
    "does not name": _callback_of_another,
    "ran, and is no part of any flow": _second_copy_ran,
    "ran with the message of": _wrong_message,
    "ran again for no reason": _ran_twice,
    "was stopped": _stopped_at_last,
    "began after": _began_after_cancel,
    "ended as c and fired": _canceled_fired,
    "ended as d, not f": _canceled_unheard,
    "not Outcome(status='c'": _canceled_untold,
    "was cut off by the clean end": _cut_off_by_leave,
    "left with 1": _left_in_error,
    "ended by itself": _broke,
    "ran again for no reason: ": _ran_after_long_dead,
    "s after its worker was killed": _slow_recovery,
    "created child as ['01ANOTHER'": _created_twice,
    "created child as []": _created_nothing,
    "child: stalled": _created_and_left,
    "waited on nothing: f0.1": _stalled_for_a_moment,
    "repair found orphan": _to_be_repaired,
    "s:01ANOTHER is there after": _outlived,
    "ran at once, its bound is": _too_many_at_once,
    "the outbox still holds": _row_left,
    "is still counted": _run_left,
    "slots are still held": _slot_left,
    "would stay for ever": _key_stays,
    "is listed as never started": _listed,
}
"""What to plant, by what the audit says of it."""


def test_quiet_run_has_no_faults(quiet: Evidence) -> None:
    """Where nothing was disturbed the audit finds nothing, and there was something to look at."""
    assert audit(quiet) == []
    assert len(quiet.executions) > 50


@pytest.mark.parametrize("message", _PLANTS)
def test_planted_fault_is_found(quiet: Evidence, message: str) -> None:
    """A fault that is planted in a copy of the evidence is named by the audit."""
    planted = Planted(quiet)
    _PLANTS[message](planted)
    faults = audit(planted.evidence)
    assert any(message in fault for fault in faults), faults


@pytest.mark.parametrize(
    "cause",
    ["death", "break", "outage", "freeze", "freeze before it", "interrupt", "interrupt before it", "next attempt"],
)
def test_repetition_with_a_cause_is_none(quiet: Evidence, cause: str) -> None:
    """An execution may be repeated when its worker died, broke or froze, after an interrupt, as the next attempt."""
    planted = Planted(quiet)
    swarm = planted.done_swarm()
    first = planted.executions[planted.done_members(swarm)[0].id][0]
    second = planted.again(first)
    second.began = second.ended = 10.0**9
    assert first.ended is not None
    if cause == "death":
        planted.evidence.deaths[first.process] = first.ended
    elif cause in {"break", "outage"}:
        outage = Outage(began=first.ended, ended=first.ended + (60 if cause == "outage" else 0))
        broken = Break(process=first.process, own=first.own, at=outage.ended + 4, error="")
        planted.evidence.outages, planted.evidence.breaks = [outage], [broken]
    elif cause == "freeze":
        planted.evidence.freezes = [Freeze(process=first.process, began=first.began, ended=first.ended)]
    elif cause == "freeze before it":
        # What was accepted first begins last.
        first.run, second.run, second.process = second.run, first.run, first.process + 1
        freeze = Freeze(process=second.process, began=first.began - 8, ended=second.began - 0.1)
        planted.evidence.freezes = [freeze]
    elif cause == "next attempt":
        second.attempt = first.attempt + 1
    else:
        # It may reach the container of a run that is accepted, and whose code has not begun.
        since = first.began - (1 if cause == "interrupt before it" else 0)
        call = Steering(verb="interrupt", id=swarm.id, began=since, ended=since)
        planted.evidence.steering = [call]
    assert audit(planted.evidence) == []


def test_beginnings_and_ends_are_put_together() -> None:
    """What a killed worker wrote has no end; every run has its own execution; what it created is kept."""
    about: dict[str, str | float] = {"id": "1", "name": "a", "process": 7, "own": 8}
    lines: list[dict[str, str | float]] = [
        {**about, "run": 1, "attempt": 1, "what": "began", "at": 1.0},
        {**about, "run": 2, "attempt": 1, "what": "began", "at": 2.0},
        {**about, "run": 2, "attempt": 1, "what": "ended", "at": 3.0},
    ]
    lines.append({**about, "run": 2, "attempt": 1, "what": "made", "at": 2.5, "child": "b", "made": "2"})
    lines.append({"process": 7, "own": 8, "what": "broke", "at": 4.0, "error": "no"})
    records = parse_records(json.dumps(line) for line in lines)
    first, second = records.executions
    assert records.breaks == [Break(process=7, own=8, at=4.0, error="no")]
    assert records.made == [Made(by="1", name="b", id="2")]
    assert (first.end, first.ended) == (None, None)
    assert (second.end, second.began, second.ended) == ("ended", 2.0, 3.0)
