"""How a flow must end, told from its plan alone: chaos may not change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.chaos.evidence import Outcome
from tests.chaos.flows import GRAPH, digest, of_error, result_of
from tests.chaos.load import Node


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """How flows must end in which some signatures were canceled by name."""

    canceled: frozenset[str] = frozenset()

    def outcome(self, node: Node, given: str) -> Outcome:
        """Return how a signature ends that gets this value (a digest, or nothing)."""
        if node.id in self.canceled:
            return Outcome(status="c")
        if node.kind == "t":
            return Outcome(status="f") if node.fails else Outcome(status="d", result=_result(node, given))
        return self._of_chain(node, given) if node.kind == "c" else self._of_swarm(node, given)

    def _of_chain(self, node: Node, given: str) -> Outcome:
        result: Any = None
        for member in node.members:
            outcome = self.outcome(member, given)
            if outcome.status != "d":
                return Outcome(status="f")
            result, given = outcome.result, digest(outcome.result)
        return Outcome(status="d", result=result)

    def _of_swarm(self, node: Node, given: str) -> Outcome:
        outcomes = [self.outcome(member, given) for member in node.members]
        failures = sum(outcome.status != "d" for outcome in outcomes)
        if node.budget is not None and failures >= node.budget:
            return Outcome(status="f")
        return Outcome(status="d", result=[outcome.result for outcome in outcomes if outcome.status == "d"])

    def errors(self, node: Node) -> set[str]:
        """Return what may stand for the error that a signature failed with: which of a swarm's is a matter of time."""
        if node.id in self.canceled:
            return {of_error("Canceled")}
        if node.kind == "t":
            return {of_error("RunFailedError" if node.task == GRAPH else "DecidedError")}
        failed = [member for member in node.members if self.outcome(member, "").status != "d"]
        causes = failed[:1] if node.kind == "c" else failed
        return {error for member in causes for error in self.errors(member)}

    def given_to_members(self, node: Node, given: str) -> list[str]:
        """Return what each member of a container gets; of a chain's behind a failed one it does not matter."""
        values: list[str] = []
        for member in node.members:
            values.append(given)
            if node.kind == "c":
                given = digest(self.outcome(member, given).result)
        return values


def _result(node: Node, given: str) -> Any:
    result = result_of(node.name, given)
    return {"head": result_of(node.name, ""), "tail": result} if node.task == GRAPH else result
