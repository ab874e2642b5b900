"""How a flow must end, told from its plan alone: chaos may not change it."""

from __future__ import annotations

from typing import Any

from tests.chaos.evidence import Outcome
from tests.chaos.flows import digest, of_error, result_of
from tests.chaos.load import Node

AFTER_ERROR = of_error("DecidedError")
"""What stands for the value of an error callback."""


def expected(node: Node, given: str) -> Outcome:
    """Return how a signature ends that gets this value (a digest, or nothing)."""
    if node.kind == "t":
        return Outcome(status="f") if node.fails else Outcome(status="d", result=result_of(node.name, given))
    return _of_chain(node, given) if node.kind == "c" else _of_swarm(node, given)


def _of_chain(node: Node, given: str) -> Outcome:
    result: Any = None
    for member in node.members:
        outcome = expected(member, given)
        if outcome.status != "d":
            return outcome
        result, given = outcome.result, digest(outcome.result)
    return Outcome(status="d", result=result)


def _of_swarm(node: Node, given: str) -> Outcome:
    outcomes = [expected(member, given) for member in node.members]
    failures = sum(outcome.status != "d" for outcome in outcomes)
    if node.budget is not None and failures >= node.budget:
        return Outcome(status="f")
    return Outcome(status="d", result=[outcome.result for outcome in outcomes if outcome.status == "d"])


def given_to_members(node: Node, given: str) -> list[str]:
    """Return what each member of a container gets; of a chain's behind a failed one it does not matter."""
    values: list[str] = []
    for member in node.members:
        values.append(given)
        if node.kind == "c":
            given = digest(expected(member, given).result)
    return values
