"""A signature as the model of the store sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(eq=False, kw_only=True)
class Node:
    """A signature. Statuses, kinds and marks are the letters of the records (p a d f c, t c s w, s i c).

    What a failed or canceled container ends below it has that status at once; a mark is only on its own node. The
    members of a task are the signatures that replaced it, and those that replaced these.
    """

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
    early: bool = False
    """Whether it was told to run at a time that has not come yet."""
    timer: bool = False
    """Whether it waits for that time."""
    expiring: bool = False
    gone: bool = False
    # steering
    mark: str | None = None
    stamp: int = 0
    removed: bool = False
    held_back: bool = False
    holds: list[Node] = field(default_factory=list["Node"])
    outcome: str | None = None
    slot: str | None = None
    """Its slot in a swarm: `given` back while it was held, `asked` for again; else `None`."""
    # where values come from
    takes: Node | None = None
    takes_error: Node | None = None
    result: Node | None = None
    error: Node | None = None
    # a task
    dispatch: int = 0
    attempts: int = 0
    lost: int = 0
    """Of these attempts, in this dispatch, those that never began: their deliveries were lost on the way."""
    offers: int = 0
    offered_at: int = 0
    """When its row was offered; of a retry, when that is due. Time stands still at 0."""
    lapses: int = 0
    run: int = 0
    accepted: tuple[int, int] | None = None
    row: bool = False
    running: bool = False
    overtaken: dict[int, list[Node]] = field(default_factory=dict[int, "list[Node]"])
    """Runs that the next attempt overtook, and that have not reported yet: the swarms whose slots they keep."""
    started_at: int = 0
    """The newest stamp of all when its run started."""
    choice: str | None = None
    """What its result chooses among the cases of a switch."""
    by: Node | None = None
    """The signature that replaced it, returned by its run `by_run`; its result is to be checked (`check`), or now."""
    by_run: int = 0
    check: bool = False
    checking: bool = False
    replaced: int = 0
    """How many signatures replaced it, one after the other."""
    replaces: Node | None = None
    plan: Node | None = None
    """A sketch of what its run returns."""
    # a switch: the values of its cases as JSON, an empty one is the default; the place of the chosen member
    cases: list[str] = field(default_factory=list[str])
    chosen: int = 0
    # a container
    walked: str | None = None
    """The reason for which its members are canceled."""
    begun: bool = False
    # a swarm
    bound: int | None = None
    tolerance: int | None = None
    room: int | None = None
    interrupts: bool = False
    closed: bool = False
    opened_by: str | None = None
    queue: list[Node] = field(default_factory=list["Node"])
    holding: list[Node] = field(default_factory=list["Node"])
    # a map: the signature of which each item, a member of it, is a copy
    template: Node | None = None
    owned: bool = False
    """Whether it is such a template: it goes with its map."""
    recorded: bool = False
    """Whether an item has a record: from its turn, or a verb of steering, until it is done and nothing hangs on it."""
    done: int = 0
    failed: int = 0
    canceled_early: int = 0
    """Members canceled before it started."""

    @property
    def ended(self) -> bool:
        """Whether nothing can follow, marks aside."""
        return self.status in "dfc"

    @property
    def is_item(self) -> bool:
        """Whether it is an item of a map."""
        return self.container is not None and self.container.template is not None

    @property
    def above(self) -> Iterator[Node]:
        """The containers above, nearest first."""
        node = self.container
        while node is not None:
            yield node
            node = node.container

    @property
    def path(self) -> Iterator[Node]:
        """Itself and all that steers it: containers, what fired it, the containers of that, up to the root."""
        node: Node | None = self
        while node is not None and not node.gone:
            yield node
            node = node.container or node.origin

    @property
    def root(self) -> Node:
        """The root of its flow."""
        return [*self.path][-1] if not self.gone else self

    @property
    def dead(self) -> Node | None:
        """The nearest container above that has ended."""
        return next((container for container in self.above if container.ended), None)

    @property
    def waits(self) -> bool:
        """Whether it is a task that waits for the end of what replaced it."""
        return self.by is not None and not self.checking

    @property
    def runs_on(self) -> bool:
        """Whether the code of a task runs, or that of the task that replaced it."""
        node = self
        while node.by is not None and not node.checking:
            node = node.by
        return node.kind == "t" and node.running

    @property
    def below_chooser(self) -> bool:
        """Whether its result may be what a switch chooses by."""
        path = [self, *self.above]
        return any(above.kind == "w" and above.members[0] is node for node, above in pairwise(path))

    def tree(self) -> Iterator[Node]:
        """Itself, everything below, and the callbacks that were fired there."""
        yield self
        for part in (*self.members, *self.fired):
            yield from part.tree()

    # Marks.

    @property
    def held(self) -> tuple[str, Node] | None:
        """The strongest mark on its path and the nearest node that carries it; only a cancel outlives its node."""
        found: tuple[str, Node] | None = None
        for node in self.path:
            carries = node.mark == "c" or not node.ended or node.lingers
            if node.mark and carries and (found is None or "sic".index(node.mark) > "sic".index(found[0])):
                found = node.mark, node
        return found

    @property
    def effective(self) -> str:
        """Its status, or that it is canceled by a mark above; suspended and interrupted ones are told by `held`."""
        return "c" if not self.ended and self.held is not None and self.held[0] == "c" else self.status

    @property
    def over(self) -> bool:
        """Whether nothing can follow."""
        return self.effective in "dfc"

    @property
    def outdated(self) -> bool:
        """Whether what its run reports is discarded: it was interrupted or canceled since the run started."""
        return any(node.stamp > self.started_at for node in self.path)

    @property
    def without_slot(self) -> Node | None:
        """The outermost container, or itself, that gave its slot back."""
        return next((node for node in reversed([self, *self.above]) if node.slot), None)

    # Containers.

    @property
    def current_member(self) -> Node:
        """The member of a chain or switch whose turn it is, or the last."""
        if self.kind == "w":
            return self.members[self.chosen]
        return next((member for member in self.members if not (member.told and member.ended)), self.members[-1])

    @property
    def left_runs(self) -> list[tuple[Node, int]]:
        """Runs below that were stopped, or overtaken by the next attempt, and have yet to report: they keep slots."""
        return [*self._left_runs(self)]

    def _left_runs(self, swarm: Node) -> Iterator[tuple[Node, int]]:
        for task in self.members:
            if task.running and task.status == "c":
                yield task, task.run
            yield from ((task, run) for run, above in task.overtaken.items() if swarm in above)
            yield from task._left_runs(swarm)

    @property
    def slots_taken(self) -> int:
        """How many slots of a swarm are taken."""
        return len(self.holding) + len(self.left_runs)

    @property
    def lingers(self) -> bool:
        """Whether it is active, or a canceled container in which something is, or a task that waits on such."""
        if self.status != "c":
            return self.status == "a"
        if self.kind == "t":
            return self.by is not None and self.waits and self.by.lingers
        return any(member.lingers for member in self.members)

    @property
    def active_members(self) -> int:
        """Members that started and are not over."""
        return sum(member.lingers for member in self.members)

    @property
    def canceled(self) -> int:
        """Members that a swarm counts as canceled: a container when nothing in it is active any more."""
        if not self.begun:
            return self.canceled_early
        return sum(member.status == "c" and not member.lingers for member in self.members)

    @property
    def budget_used_up(self) -> bool:
        """Whether as many members of a swarm failed as make it fail."""
        return self.tolerance is not None and self.failed + self.canceled >= self.tolerance

    @property
    def idle(self) -> bool:
        """Whether it is an open swarm in which nothing runs, is ready or is held."""
        if self.kind != "s" or self.status != "a" or self.closed or self.outcome or self.held or self.without_slot:
            return False
        waiting = any(not member.ended and (member in self.queue or member.slot) for member in self.members)
        return not waiting and not self.slots_taken
