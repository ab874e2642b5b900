"""A signature as the model of the store sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(eq=False, kw_only=True)
class Node:
    """A signature. Statuses and kinds are the letters of the records (p a d f c, t c s)."""

    kind: str = "t"
    status: str = "p"
    reason: str | None = None
    container: Node | None = None
    origin: Node | None = None
    members: list[Node] = field(default_factory=list["Node"])
    success: list[Node] = field(default_factory=list["Node"])
    failure: list[Node] = field(default_factory=list["Node"])
    fired: list[Node] = field(default_factory=list["Node"])
    problem: Node | None = None
    draft: bool = False
    told: bool = False
    expiring: bool = False
    gone: bool = False
    # where values come from
    takes: Node | None = None
    takes_error: Node | None = None
    result: Node | None = None
    error: Node | None = None
    # a task
    dispatch: int = 0
    attempts: int = 0
    offers: int = 0
    lapses: int = 0
    run: int = 0
    accepted: tuple[int, int] | None = None
    row: bool = False
    running: bool = False
    overtaken: list[int] = field(default_factory=list[int])
    # a swarm
    bound: int | None = None
    tolerance: int | None = None
    room: int | None = None
    interrupts: bool = False
    closed: bool = False
    opened_by: str | None = None
    queue: list[Node] = field(default_factory=list["Node"])
    holding: list[Node] = field(default_factory=list["Node"])
    done: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self.status in "dfc"

    @property
    def above(self) -> Iterator[Node]:
        """The containers above, nearest first."""
        node = self.container
        while node is not None:
            yield node
            node = node.container

    @property
    def root(self) -> Node:
        """The root of its flow."""
        node = self
        while (above := node.container or node.origin) is not None and not above.gone:
            node = above
        return node

    def tree(self) -> Iterator[Node]:
        """Itself, everything below, and the callbacks that were fired there."""
        yield self
        for part in (*self.members, *self.fired):
            yield from part.tree()

    @property
    def left_runs(self) -> list[tuple[Node, int]]:
        """Runs below that were stopped, or overtaken by the next attempt, and have yet to report: they keep slots."""
        left = [(task, task.run) for task in self.members if task.running and task.status == "c"]
        left += [(task, run) for task in self.members for run in task.overtaken]
        return left + [below for member in self.members for below in member.left_runs]

    @property
    def lingers(self) -> bool:
        """Whether it is active, or a canceled container in which something is."""
        if self.kind == "t" or self.status != "c":
            return self.status == "a"
        return any(member.lingers for member in self.members)

    @property
    def active_members(self) -> int:
        """Members that started and are not over."""
        return sum(member.lingers for member in self.members)

    @property
    def idle(self) -> bool:
        """Whether it is an open swarm in which nothing runs or is ready."""
        quiet = not self.queue and not self.holding and not self.left_runs
        return self.kind == "s" and self.status == "a" and not self.closed and quiet
