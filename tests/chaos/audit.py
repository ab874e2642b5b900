"""The audit: from what was asked for, what the tasks wrote down and what Redis holds, everything that went wrong."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence

from tests.chaos.evidence import Evidence, Execution
from tests.chaos.expected import AFTER_ERROR, expected, given_to_members
from tests.chaos.flows import digest
from tests.chaos.load import Node
from tests.store.snapshot import ENDED
from tests.store.waiting import why

_STAYING = re.compile(r"out|runs|workers|tasks|lo|drafts|beat|gap|stamp|ix:[a-z]|queue:.*")


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

    def faults(self) -> Iterator[str]:
        """Yield every fault; one of a flow names the signature in its plan."""
        for flow in self._evidence.flows:
            yield from self._caller(flow)
            yield from self._node(flow, flow.id, "", free=False)
        yield from self._strangers()
        yield from self._repetitions()
        yield from self._bounds()
        yield from self._leftovers()

    # How flows ended.

    def _caller(self, flow: Node) -> Iterator[str]:
        told, must = self._evidence.outcomes.get(flow.name), expected(flow, "")
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
        status, must = self._state.record(identifier)["st"], expected(node, given)
        if status not in ENDED:
            if not free or self._state.status(identifier) not in ENDED:
                yield f"{node.name}: stalled, {identifier} is {status} and waits on {why(self._state, identifier)}"
                return
            status = "c"
        if status != must.status and not (free and status == "c"):
            yield f"{node.name}: {identifier} ended as {status}, not {must.status}"
            return
        if node.kind == "t":
            yield from self._task(node, identifier, status, must.result)
        else:
            yield from self._members(node, identifier, given, status)
        yield from self._callbacks(node, identifier, status, digest(must.result))

    def _task(self, node: Node, identifier: str, status: str, result: object) -> Iterator[str]:
        home = self._state.record(identifier).get("c", identifier)
        stored = self._state.hashes.get(f"b:{home}", {}).get(f"{identifier}:r")
        if status == "d" and (stored is None or json.loads(stored) != result):
            yield f"{node.name}: the result of {identifier} is {stored}, not {result}"
        ends = [execution.end for execution in self._executions.get(identifier, [])]
        wanted = {"d": "ended", "f": "failed"}.get(status)
        if wanted is not None and wanted not in ends:
            yield f"{node.name}: {identifier} reads {status}, but its executions ended as {ends}"

    def _members(self, node: Node, identifier: str, given: str, status: str) -> Iterator[str]:
        ids = self._state.entries("m", identifier)
        original = [member.id for member in node.members]
        known = [place or given for place, given in zip(original, ids, strict=False)]
        if len(ids) != len(original) or (identifier == node.id and ids != known):
            yield f"{node.name}: the members of {identifier} are {ids}, not {original}"
            return
        skipped = False
        pairs = zip(node.members, ids, given_to_members(node, given), strict=True)
        for member, member_id, value in pairs:
            if skipped:
                yield from self._canceled(member, member_id)
                continue
            yield from self._node(member, member_id, value, free=status == "c" or (status == "f" and node.kind == "s"))
            skipped = node.kind == "c" and status == "f" and expected(member, value).status == "f"

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
            yield from self._node(template, copy, value if status == "d" else AFTER_ERROR, free=False)

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
                if first.attempt != second.attempt - 1 and not self._repeatable(first, second):
                    yield f"{first.name}: {identifier} ran again for no reason: {first}, {second}"
            yield from self._cut_off(executions)

    def _cut_off(self, executions: Sequence[Execution]) -> Iterator[str]:
        last = executions[-1]
        if last.end == "stopped" and self._state.records.get(last.id, {}).get("st") != "c":
            yield f"{last.name}: the last run of {last.id} was stopped"

    def _repeatable(self, first: Execution, second: Execution) -> bool:
        """Whether the first was interrupted, or its worker died or froze before the outcome was recorded."""
        death = self._evidence.deaths.get(first.process)
        if death is not None and death <= second.began:
            return True
        if any(freeze.touches(first) for freeze in self._evidence.freezes):
            return True
        path = {*self._path(first.id)}
        return any(
            interrupt.id in path and interrupt.ended >= first.began and interrupt.began <= second.began
            for interrupt in self._evidence.interrupts
        )

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
            if name not in state.expiring and not _STAYING.fullmatch(name) and not self._listed(name.split(":")[-1]):
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
