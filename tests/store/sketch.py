"""What Hypothesis draws, as choices; signatures of any shape made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from tests.node import Node
from tests.store.world import World

T = TypeVar("T")
CHOICES_OF_SWITCHES = ("1", '"two"', "true", "9", "")
_CASES = (["1"], ["1", ""], ["true", "", '"two"'])
"""Of switches with one, two and three cases; an empty one is the default."""


class Numbers:
    """Choices read from bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, bound: int) -> int:
        """Return a number below a bound."""
        return next(self._data, 0) % bound

    def chance(self, one_in: int) -> bool:
        """Return true now and then, false when the bytes are used up."""
        return self.below(one_in) == one_in - 1

    def one(self, items: Sequence[T]) -> T | None:
        """Choose an item; the newest when the bytes are used up."""
        return items[-1 - self.below(len(items))] if items else None


def nodes_of(world: World) -> list[Node]:
    """Return all that is there."""
    return [node for node in world.model.nodes() if node in world.ids and not node.owned]


def size_of(node: Node, above: frozenset[Node] = frozenset()) -> float:
    """How many signatures come of it at the most, callbacks of callbacks included."""
    if node in above:
        return math.inf
    return 1 + sum(size_of(part, above | {node}) for part in (*node.members, *node.success, *node.failure))


def entangles(node: Node, by: Node) -> bool:
    """Whether the flow of a task would name one as a callback that names it, with that as a part of it.

    Each of them would keep the other.
    """
    seen, found = {node.root}, _named_roots(by)
    while found:
        root = found.pop()
        if root in seen:
            continue
        seen.add(root)
        named = _named_roots(root)
        if node.root in named:
            return True
        found.extend(named)
    return False


def _named_roots(node: Node) -> list[Node]:
    return [one.root for part in node.tree() for one in (*part.success, *part.failure)]


def reaches(node: Node, swarm: Node, above: frozenset[Node] = frozenset()) -> bool:
    """Whether a firing of it could start a copy of the swarm: a flow without an end, once it is a part of it."""
    parts = (*node.members, *node.success, *node.failure)
    further = above | {node}
    return node is swarm or any(reaches(part, swarm, further) for part in parts if part not in further)


def templates(world: World, numbers: Numbers) -> list[Node]:
    """Draw callbacks, of what nobody has started."""
    free = (root for root in world.model.unstarted() if not any(node.template for node in root.tree()))
    named = [root for root in free if size_of(root) <= 8]
    count = (0, 1, 0, 1, 2)[numbers.below(5)] if named else 0
    return [template for _ in range(count) if (template := numbers.one(named)) is not None]


def sketch(world: World, numbers: Numbers, depth: int) -> Node:
    """Draw a signature with new members."""
    kind = "ttcsw"[numbers.below(5)] if depth else "t"
    node = Node(kind=kind, success=templates(world, numbers), failure=templates(world, numbers))
    if kind in "cw":
        node.members = [sketch(world, numbers, depth - 1) for _ in range(2 + numbers.below(2))]
        draw_cases(node)
    elif kind == "s":
        node.members = [sketch(world, numbers, depth - 1) for _ in range(numbers.below(4))]
        draw_settings(node, numbers)
    return node


def draw_settings(swarm: Node, numbers: Numbers) -> None:
    """Draw the settings of a swarm."""
    swarm.bound = (None, 1, 2, 3)[numbers.below(4)]
    swarm.tolerance = (None, 1, 2)[numbers.below(3)]
    swarm.interrupts = numbers.chance(2)
    room = len(swarm.members) + numbers.below(3)
    swarm.room = room if numbers.chance(2) and room else None
    swarm.closed = numbers.chance(2) or swarm.room == len(swarm.members)


def draw_cases(node: Node) -> None:
    """Give a switch the values of its cases."""
    if node.kind == "w":
        node.cases = _CASES[len(node.members) - 2]
