"""The audit: from what was asked for, what the tasks wrote down and what Redis holds, everything that went wrong."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from tests.chaos.evidence import REPORT, Evidence, Execution, Steering
from tests.chaos.expected import Expectations
from tests.chaos.flows import DURABLE, GRAPH, digest
from tests.chaos.load import Node
from tests.leaks import BOUNDED
from tests.store.snapshot import ENDED
from tests.store.waiting import why

_RECOVERY = 10.0
"""Seconds after which a killed worker's run must have begun again, where nothing else is wrong."""
_BREAKING = 10.0
"""Seconds within which a process has ended whose task manager gives up because of an outage."""


def audit(evidence: Evidence) -> list[str]:
    """Return a line for each fault; none means that everything is as it had to be."""
    return [*Audit(evidence).faults()]


class Audit:
    """One pass over the evidence."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._state = evidence.state
        self._executions = evidence.executions_by_id()
        self._names: dict[str, str] = {}
        self._tasks: dict[str, str] = {}
        named = {
            call.id: call for call in evidence.steering if call.verb == "cancel" and call.id in self._state.records
        }
        self._canceled_calls = [call for call in named.values() if self._state.status(call.id) == "c"]
        self._expect = Expectations(canceled=frozenset(call.id for call in self._canceled_calls))
        self._breaks = {broken.own: broken.at for broken in evidence.breaks}

    def faults(self) -> Iterator[str]:
        """Yield every fault; one of a flow names the signature in its plan."""
        for flow in self._evidence.flows:
            yield from self._caller(flow)
            yield from self._node(flow, flow.id, "", free=False)
        yield from self._strangers()
        yield from self._repetitions()
        yield from self._late_starts()
        yield from self._clean_leaves()
        yield from self._broken()
        yield from self._slow_recoveries()
        yield from self._bounds()
        yield from self._leftovers()
        yield from (f"it waited on nothing: {stall}" for stall in self._evidence.stalls)
        yield from (f"repair found {finding}" for finding in self._evidence.found)
        yield from (f"the key {name} is there after all lifetimes" for name in self._evidence.left)

    # How flows ended.

    def _caller(self, flow: Node) -> Iterator[str]:
        told, must = self._evidence.outcomes.get(flow.name), self._expect.outcome(flow, "")
        if told is None:
            yield f"{flow.name}: its caller was told nothing"
        elif told != must:
            yield f"{flow.name}: its caller was told {told}, not {must}"

    def _node(self, node: Node, identifier: str, given: str, *, free: bool) -> Iterator[str]:
        """Check a signature and all below it; `free`: a container above has failed, so it may be canceled too."""
        self._names[identifier] = node.name
        if identifier not in self._state.records:
            yield f"{node.name}: there is no record {identifier}"
            return
        status, must = self._state.record(identifier)["st"], self._expect.outcome(node, given)
        if status not in ENDED:
            if not free or self._state.status(identifier) not in ENDED:
                yield f"{node.name}: stalled, {identifier} is {status} and waits on {why(self._state, identifier)}"
                return
            status = "c"
        if status != must.status and not (free and status == "c"):
            error = self._stored(identifier, "e") or "no error"
            yield f"{node.name}: {identifier} ended as {status}, not {must.status}: {error}"
            return
        if node.kind == "t":
            yield from self._task(node, identifier, status, must.result)
            yield from self._spawned(node, identifier, status)
        else:
            yield from self._members(node, identifier, given, status)
        yield from self._callbacks(node, identifier, status, digest(must.result))

    def _task(self, node: Node, identifier: str, status: str, result: object) -> Iterator[str]:
        self._tasks[identifier] = node.task
        stored = self._stored(identifier)
        if status == "d" and (stored is None or json.loads(stored) != result):
            yield f"{node.name}: the result of {identifier} is {stored}, not {result}"
        ends = [execution.end for execution in self._executions.get(identifier, [])]
        wanted = {"d": "ended", "f": "failed"}.get(status)
        if wanted is not None and wanted not in ends:
            yield f"{node.name}: {identifier} reads {status}, but its executions ended as {ends}"

    def _spawned(self, node: Node, identifier: str, status: str) -> Iterator[str]:
        """Check what a task created, the same in each of its runs; a canceled task may not have got there."""
        for child in node.spawns:
            ids = {made.id for made in self._evidence.made if made.by == identifier and made.name == child.name}
            if len(ids) > 1 or (not ids and status != "c"):
                yield f"{node.name}: {identifier} created {child.name} as {sorted(ids)}"
            for made in ids:
                waits = status == "c" and not self._executions.get(made) and self._unstarted(made)
                yield from () if waits else self._node(child, made, "", free=False)

    def _unstarted(self, identifier: str) -> bool:
        return self._state.records.get(identifier, {"st": "c"})["st"] in {"p", "c"}

    def _members(self, node: Node, identifier: str, given: str, status: str) -> Iterator[str]:
        ids = self._state.entries("m", identifier)
        original = [member.id for member in node.members]
        if status != "d" and (node.grown or node.inside):
            original = original[: len(ids)]  # it took no more once it had ended
        known = [place or given for place, given in zip(original, ids, strict=False)]
        if len(ids) != len(original) or (identifier == node.id and ids != known):
            yield f"{node.name}: the members of {identifier} are {ids}, not {original}"
            return
        skipped = False
        pairs = zip(node.members, ids, self._expect.given_to_members(node, given), strict=False)
        for member, member_id, value in pairs:
            if skipped:
                yield from self._canceled(member, member_id)
                continue
            yield from self._node(member, member_id, value, free=status == "c" or (status == "f" and node.kind == "s"))
            skipped = node.kind == "c" and status == "f" and self._expect.outcome(member, value).status != "d"

    def _canceled(self, node: Node, identifier: str) -> Iterator[str]:
        """Check what must never have started."""
        self._names[identifier] = node.name
        if self._state.status(identifier) != "c":
            yield f"{node.name}: {identifier} behind a failed member reads {self._state.status(identifier)}"
        if self._executions.get(identifier):
            yield f"{node.name}: {identifier} behind a failed member ran"
        yield from self._callbacks(node, identifier, "c", "")
        for member, member_id in zip(node.members, self._state.entries("m", identifier), strict=False):
            yield from self._canceled(member, member_id)

    def _callbacks(self, node: Node, identifier: str, status: str, value: str) -> Iterator[str]:
        templates = {"d": node.success, "f": node.failure}.get(status, [])
        fired = self._state.entries("c", identifier)
        names = [template.name for template in templates]
        if len(fired) != len(templates):
            yield f"{node.name}: {identifier} ended as {status} and fired {len(fired)} copies of the callbacks {names}"
            return
        for template, copy in zip(templates, fired, strict=True):
            if self._state.records.get(copy, {}).get("o") != identifier:
                yield f"{template.name}: the copy {copy} does not name {identifier}, which fired it"
            errors = sorted(self._expect.errors(node), key=lambda error: self._got(copy) != error)
            # A cancel reaches what was fired below it.
            free = not self._expect.canceled.isdisjoint(self._path(identifier))
            yield from self._node(template, copy, value if status == "d" else errors[0], free=free)

    def _got(self, identifier: str) -> object:
        """Return what stands for the value that a task got, as its result says."""
        stored = self._stored(identifier)
        result: dict[str, Any] = {} if stored is None else json.loads(stored)
        return result.get("tail", result).get("after")

    def _stored(self, identifier: str, what: str = "r") -> str | None:
        """Return the result of a signature, or its error."""
        home = self._state.record(identifier).get("c", identifier) if identifier in self._state.records else identifier
        return self._state.hashes.get(f"b:{home}", {}).get(f"{identifier}:{what}")

    # What ran.

    def _strangers(self) -> Iterator[str]:
        for identifier, executions in self._executions.items():
            if identifier not in self._names:
                yield f"{executions[0].name}: {identifier} ran, and is no part of any flow"
            elif self._names[identifier] != executions[0].name:
                yield f"{self._names[identifier]}: {identifier} ran with the message of {executions[0].name}"

    def _repetitions(self) -> Iterator[str]:
        for identifier, executions in self._executions.items():
            for first, second in itertools.pairwise(executions):
                graph = self._tasks.get(identifier) == GRAPH and self._restartable(executions[0], second)
                if first.attempt != second.attempt - 1 and not graph and not self._repeatable(first, second):
                    calls = [*self._calls(identifier)]
                    yield f"{first.name}: {identifier} ran again for no reason: {first}, {second}, steered {calls}"
            yield from self._cut_off(executions)

    def _cut_off(self, executions: Sequence[Execution]) -> Iterator[str]:
        last = executions[-1]
        if last.end == "stopped" and last.id in self._state.records and self._state.status(last.id) != "c":
            yield f"{last.name}: the last run of {last.id} was stopped"

    def _repeatable(self, first: Execution, second: Execution) -> bool:
        """Whether the first was interrupted, or its worker died or froze before the outcome was recorded."""
        ends = (self._evidence.deaths.get(first.process), self._breaks.get(first.own))
        if any(end is not None and end <= second.began and self._unreported(first, end) for end in ends):
            return True
        # A run that was accepted before a freeze may begin after one that was accepted later.
        touched = (first, second) if second.run < first.run else (first,)
        if any(freeze.touches(execution) for freeze in self._evidence.freezes for execution in touched):
            return True
        return self._evicted(first) or self._steered(first.id, first.began, second.began, "interrupt")

    def _evicted(self, first: Execution) -> bool:
        """Whether a durable task waited where a worker left: Hatchet's client hands it to another, from its start."""
        if self._tasks.get(first.id) != DURABLE or first.end != "stopped" or first.ended is None:
            return False
        left = (leave for leave in self._evidence.leaves if leave.process == first.process)
        return any(leave.began <= first.ended <= leave.ended for leave in left)

    def _restartable(self, earliest: Execution, second: Execution) -> bool:
        """Whether a worker died or froze that may have followed a run of several tasks, by which all of it is lost.

        It may be one where none of its code began.
        """
        since = earliest.began - _RECOVERY
        if any(since <= end <= second.began for end in (*self._evidence.deaths.values(), *self._breaks.values())):
            return True
        if any(freeze.began <= second.began and since <= freeze.ended for freeze in self._evidence.freezes):
            return True
        return self._steered(second.id, earliest.began, second.began, "interrupt")

    def _unreported(self, execution: Execution, until: float) -> bool:
        """Whether the outcome may not have been recorded by then: for that the server must answer for a while."""
        if execution.ended is None:
            return True
        since, outages = execution.ended, self._evidence.outages
        # What broke is tried again after a pause, that grows with the outage.
        away = sum(max(0.0, min(until, outage.ended + REPORT) - max(since, outage.began)) for outage in outages)
        return until - since <= REPORT + away

    def _steered(self, identifier: str, since: float, until: float, *verbs: str) -> bool:
        """Whether one of these calls reached a signature within a time, or as the run was accepted that began then."""
        calls = (call for call in self._calls(identifier) if call.verb in verbs)
        return any(call.ended >= since - REPORT and call.began <= until for call in calls)

    def _calls(self, identifier: str) -> Iterator[Steering]:
        """Yield the calls that steered a signature, or what is above it."""
        path = {*self._path(identifier)}
        return (call for call in self._evidence.steering if call.id in path)

    def _late_starts(self) -> Iterator[str]:
        """Check that nothing begins below what was canceled."""
        calls = {call.id: call for call in self._canceled_calls}
        for execution in self._evidence.executions:
            for above in self._path(execution.id):
                late = above in calls and execution.began > calls[above].ended + REPORT
                if late and not any(freeze.touches(execution) for freeze in self._evidence.freezes):
                    yield f"{execution.name}: {execution.id} began after {above} was canceled"

    def _clean_leaves(self) -> Iterator[str]:
        """Check that a worker that was told to leave brought to an end what it ran."""
        for leave in self._evidence.leaves:
            if leave.code:
                yield f"the worker {leave.process} left with {leave.code}"
            here = (e for e in self._evidence.executions if e.process == leave.process and e.own not in self._breaks)
            cut = (e for e in here if e.end is None)
            yield from (f"{e.name}: {e.id} was cut off by the clean end of worker {e.process}" for e in cut)

    def _broken(self) -> Iterator[str]:
        """Check that no process ends by itself, unless its task manager gives up because it lost its server."""
        for broken in self._evidence.breaks:
            times = [(outage.began, outage.ended) for outage in self._evidence.outages]
            times += [
                (freeze.began, freeze.ended) for freeze in self._evidence.freezes if freeze.process == broken.process
            ]
            if not any(began <= broken.at <= ended + _BREAKING for began, ended in times):
                yield f"process {broken.own} of the worker {broken.process} ended by itself: {broken.error}"

    def recoveries(self) -> Iterator[tuple[Execution, float]]:
        """Yield what a kill cut off and how long it took to begin again, where nothing else went on meanwhile."""
        evidence = self._evidence
        # After an outage nothing lapses for a lease.
        disturbed = [(outage.began, outage.ended + _RECOVERY) for outage in evidence.outages]
        disturbed += [(each.began, each.ended) for each in (*evidence.freezes, *evidence.leaves)]
        for executions in self._executions.values():
            for first, second in itertools.pairwise(executions):
                death = evidence.deaths.get(first.process)
                if death is None or first.end is not None or first.began > death or first.own in self._breaks:
                    continue
                more = [(other, other) for other in evidence.deaths.values() if other != death]
                quiet = not any(ended >= death and began <= second.began for began, ended in (*disturbed, *more))
                if quiet and not self._steered(first.id, 0, second.began, "suspend", "interrupt"):
                    yield first, second.began - death

    def _slow_recoveries(self) -> Iterator[str]:
        for execution, seconds in self.recoveries():
            if seconds >= _RECOVERY:
                yield f"{execution.name}: {execution.id} began again {seconds:.1f} s after its worker was killed"

    def _path(self, identifier: str) -> Iterator[str]:
        """Yield a signature and what is above it, through the callbacks that were fired."""
        above: str | None = identifier
        while above is not None:
            yield above
            record = self._state.records.get(above, {})
            above = record.get("c") or record.get("o")

    def _bounds(self) -> Iterator[str]:
        """Check that of no swarm more members ran at once than its bound allows; lost runs are left out."""
        spans: dict[str, list[tuple[float, int, str]]] = {}
        for execution in self._evidence.executions:
            if execution.ended is None or any(freeze.touches(execution) for freeze in self._evidence.freezes):
                continue
            ended, member = execution.ended, execution.id
            for container in [*self._containers(execution.id)]:
                record = self._state.records.get(container, {})
                if "mc" in record and ended > execution.began:
                    span = ((execution.began, 1, member), (ended, -1, member))
                    spans.setdefault(container, []).extend(span)
                ended, member = min(ended, self._unheeded(record)), container
        for swarm, moments in spans.items():
            peak, bound = _peak(moments), int(self._state.record(swarm)["mc"])
            if peak > bound:
                yield f"{self._names.get(swarm)}: {peak} members of {swarm} ran at once, its bound is {bound}"

    def _containers(self, identifier: str) -> Iterator[str]:
        """Yield the containers above a signature, the innermost first."""
        while identifier := self._state.records.get(identifier, {}).get("c", ""):
            yield identifier

    def _unheeded(self, swarm: dict[str, str]) -> float:
        """Return from when on what still runs below a failed swarm is no member any more; see `on_stop="finish"`."""
        if swarm.get("st") == "f" and swarm.get("os") == "finish":
            return int(swarm["t2"]) / 1000 - self._evidence.epoch
        return math.inf

    # What is left.

    def _leftovers(self) -> Iterator[str]:
        state = self._state
        yield from (f"the outbox still holds {row}" for row in state.out)
        yield from (f"a run of {identifier} is still counted" for identifier in state.runs)
        yield from (f"slots are still held: {name} {held}" for name, held in state.sets.items() if name[:2] == "l:")
        for name in sorted({*state.hashes, *state.lists, *state.sets, *state.scores, *state.strings}):
            if name not in state.expiring and not BOUNDED.fullmatch(name) and not self._listed(name.split(":")[-1]):
                yield f"the key {name} would stay for ever"
        for identifier in self._names:
            if identifier in state.scores.get("ix:p", {}):
                yield f"{self._names[identifier]}: {identifier} is listed as never started"

    def _listed(self, identifier: str) -> bool:
        """Whether it is a template, or was never started: listed with its expiry, or named by a record."""
        seen = [*self._path(identifier)][-1]
        return seen in self._state.scores.get("ix:p", {}) or int(self._state.records.get(seen, {}).get("rf", "0")) > 0


def _peak(moments: list[tuple[float, int, str]]) -> int:
    """Return how many members ran at once at the most; what ends at a moment ends before what begins."""
    running: dict[str, int] = {}
    peak = 0
    for _, change, member in sorted(moments):
        running[member] = running.get(member, 0) + change
        if not running[member]:
            del running[member]
        peak = max(peak, len(running))
    return peak
