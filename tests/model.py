"""What the store must do, in plain Python: every transition at once, over objects that point at each other.

The scripts of `mageflow.store` are compared with this model after each step. It knows nothing of keys, budgets or
continue rows; a status here is always the effective one.
"""
# size: one transition refers to the next; two files would hide what an event does.

from __future__ import annotations

from collections.abc import Iterator

from tests.node import Node


class Model:
    """All flows of a namespace."""

    def __init__(self, crash_limit: int) -> None:
        self.crash_limit = crash_limit
        self.roots: list[Node] = []
        self.drafts: dict[str, list[Node]] = {}

    def nodes(self) -> Iterator[Node]:
        """Every signature that is still there."""
        for root in self.roots:
            yield from (node for node in root.tree() if not node.gone)

    # What a flow keeps alive, and what a template is kept by.

    def alive(self, root: Node) -> int:
        """What keeps a flow from expiring: itself once started, fired callbacks, runs."""
        return sum(
            (node.running and not node.gone) + (node.told and not node.ended and node.container is None)
            for node in root.tree()
        )

    def references(self) -> dict[Node, int]:
        """How many records name each signature as a callback."""
        counts: dict[Node, int] = {}
        drafted = (node for parts in self.drafts.values() for node in parts)
        for node in (*self.nodes(), *drafted):
            if not node.expiring:
                for template in (*node.success, *node.failure):
                    counts[template] = counts.get(template, 0) + 1
        return counts

    def never_started(self) -> list[Node]:
        """Roots that go when their time is over."""
        named = self.references()
        waiting = [
            root for root in self.roots if not root.gone and root.status == "p" and not (root.told or root.draft)
        ]
        return [root for root in waiting if not named.get(root) and root.container is None]

    def settle_lifetimes(self) -> None:
        """Let flows that are over expire; one that is named as a callback stays until nothing names it."""
        while True:
            named = self.references()
            over = (root for root in self.roots if root.told and not root.expiring and self.alive(root) == 0)
            expired = next((root for root in over if not named.get(root)), None)
            if expired is None:
                return
            self.expire(expired)

    def expire(self, root: Node) -> None:
        """A flow goes, with all its records."""
        for node in root.tree():
            node.expiring = True

    def forget_unstarted(self, root: Node) -> None:
        """What was never started has reached its age."""
        if root in self.never_started():
            root.status, root.reason = "c", "expired"
            self.expire(root)
            self.vanish(root)

    def vanish(self, root: Node) -> None:
        """The records of an expiring flow are gone."""
        for node in root.tree():
            node.gone = True
        self.roots.remove(root)

    # Verbs of the user: each returns the code of a refusal, or None.

    def create(self, root: Node) -> None:
        """A new signature with all that is new below it."""
        self.roots.append(root)

    def refuse_claim(self, node: Node, container: Node | None) -> str | None:
        """Why a signature cannot become a member of a container."""
        if node.gone:
            return "not_found"
        if container is not None and node in (container, *container.above):
            return "cycle"
        if node.container is not None or node.origin is not None or node.draft:
            return "already_in_container"
        if node.status != "p" or node.told:
            return "already_started"
        return None

    def claim(self, node: Node, container: Node) -> None:
        """An existing signature becomes a member."""
        node.container = container
        self.roots.remove(node)

    def run(self, node: Node) -> str | None:
        """Start a signature; a member opens the swarms above it."""
        if refused := self._refuse_run(node):
            return refused
        if node.opened_by == "member":
            self._run_own(node)
            return None
        node.told = True
        if node.container is None:
            self._ready(node)
        else:
            self._enter(node.container, node)
        return None

    def _refuse_run(self, node: Node) -> str | None:
        if node.gone:
            return "not_found"
        if node.draft or node.status == "c":
            return "illegal"
        if node.container is not None and node.container.kind != "s":
            return "illegal"
        second = node.opened_by == "member" and not node.ended
        if (node.status != "p" or node.told) and not second:
            return "already_started"
        return "illegal" if node.container and self._being_written(node.container) else None

    def _being_written(self, container: Node) -> bool:
        """Whether a member cannot open this container and those above: an incomplete block holds them."""
        for above in (container, *container.above):
            if above.status != "p" or above.told:
                return False
            if above.draft:
                return True
            if above.container is not None and above.container.kind != "s":
                return False
        return False

    def _enter(self, swarm: Node, member: Node) -> None:
        """A member was told to run: its swarm, and those above, open for it.

        One that a chain starts stays closed: the member is ready when the chain reaches the swarm.
        """
        if member not in swarm.queue:
            swarm.queue.append(member)
        if swarm.container is not None and swarm.container.kind != "s":
            self._refill(swarm)
            return
        if swarm.status == "p" and not swarm.told:
            swarm.told, swarm.opened_by = True, "member"
            if swarm.container is None:
                self._ready(swarm)
            else:
                self._enter(swarm.container, swarm)
        self._refill(swarm)

    def add(self, swarm: Node, members: list[Node], *, run: bool, close_on_max: bool) -> str | None:
        """New members for a swarm; all or none."""
        if refused := self._refuse_add(swarm, len(members)):
            return refused
        if run and self._being_written(swarm):
            return "illegal"
        for member in members:
            if member.container is None and member in self.roots:
                self.roots.remove(member)
            member.container = swarm
        swarm.members.extend(members)
        full = swarm.room == len(swarm.members)
        if run:
            for member in members:
                member.told = True
            # All of the batch before the first starts.
            swarm.queue.extend(members)
            self._enter(swarm, members[0])
        if close_on_max and full:
            self.close(swarm)
        return None

    def _refuse_add(self, swarm: Node, count: int) -> str | None:
        if swarm.gone:
            return "not_found"
        if swarm.kind != "s":
            return "not_a_swarm"
        if swarm.status == "c":
            return "swarm_canceled"
        if swarm.ended or swarm.closed:
            return "swarm_closed"
        if swarm.room is not None and len(swarm.members) + count > swarm.room:
            return "too_many"
        return None

    def close(self, swarm: Node) -> str | None:
        """No more members; those of a running swarm become ready."""
        if swarm.gone:
            return "not_found"
        if swarm.kind != "s":
            return "not_a_swarm"
        if swarm.ended or swarm.closed:
            return None
        swarm.closed = True
        if swarm.status == "a" and swarm.opened_by == "own":
            self._run_present(swarm)
        self._refill(swarm)
        return None

    # What becomes ready.

    def _run_own(self, swarm: Node) -> None:
        """The own run of a swarm that one of its members opened."""
        if swarm.opened_by == "member" and not swarm.ended:
            swarm.opened_by = "own"
            if swarm.status == "a":
                self._run_present(swarm)
                self._refill(swarm)

    def _run_present(self, swarm: Node) -> None:
        """Make every present member ready; swarms that one of their members opened have their own run by that."""
        swarm.queue.extend(m for m in swarm.members if m.status == "p" and not m.told and m not in swarm.queue)
        for member in swarm.members:
            self._run_own(member)

    def _ready(self, node: Node) -> None:
        node.told = True
        if node.kind == "t":
            self._write_row(node)
            return
        node.status = "a"
        if node.kind == "c":
            self._ready(node.members[0])
            return
        if node.opened_by is None:
            node.opened_by = "own"
        if node.opened_by == "own":
            self._run_present(node)
        self._refill(node)

    def _write_row(self, task: Node) -> None:
        task.dispatch += 1
        task.row, task.offers = True, 0

    def _refill(self, swarm: Node) -> None:
        while swarm.status == "a" and swarm.queue:
            if swarm.bound is not None and len(swarm.holding) + len(swarm.left_runs) >= swarm.bound:
                return
            member = swarm.queue.pop(0)
            swarm.holding.append(member)
            self._ready(member)
        if swarm.status == "a" and swarm.closed and all(member.ended for member in swarm.members):
            self._end(swarm, "d")

    # What the end of a signature does.

    def _end(self, node: Node, status: str, reason: str | None = None) -> None:
        node.status, node.reason = status, reason
        if status == "d":
            self._fire(node, node.success)
        elif status == "f":
            self._fire(node, node.failure)
        if node.container is not None:
            self._member_ended(node.container, node)

    def _member_ended(self, container: Node, member: Node) -> None:
        if member in container.holding:
            container.holding.remove(member)
        if container.status != "a":
            container.canceled += member.status == "c" and container.kind == "s"
        elif container.kind == "c":
            self._chain_goes_on(container, member)
        else:
            self._swarm_goes_on(container, member)

    def _chain_goes_on(self, chain: Node, member: Node) -> None:
        place = chain.members.index(member) + 1
        if member.status == "d":
            value = member.result or member
            if place < len(chain.members):
                chain.members[place].takes = value
                self._ready(chain.members[place])
            else:
                chain.result = value
                self._end(chain, "d")
            return
        chain.error = member.error or member
        chain.status = "f"
        for later in chain.members[place:]:
            self._cancel(later, "skipped", stop=False)
        self._end(chain, "f")

    def _swarm_goes_on(self, swarm: Node, member: Node) -> None:
        swarm.done += member.status == "d"
        swarm.failed += member.status == "f"
        swarm.canceled += member.status == "c"
        failures = swarm.failed + swarm.canceled
        if member.status != "d" and swarm.tolerance is not None and failures >= swarm.tolerance:
            self._fail_swarm(swarm, member.error or member)
        else:
            self._refill(swarm)

    def _fail_swarm(self, swarm: Node, error: Node) -> None:
        swarm.error, swarm.status = error, "f"
        for member in swarm.members:
            swarm.canceled += self._cancel(member, "swarm_failed", stop=swarm.interrupts)
        self._end(swarm, "f")

    def _cancel(self, node: Node, reason: str, *, stop: bool) -> bool:
        """Cancel what has not ended below a failed container; what runs goes on unless it is to stop.

        Returns whether this signature became canceled by it.
        """
        if node.kind == "t" and (node.ended or (node.running and not stop)):
            return False
        cancels, started = not node.ended, node.status != "p"
        if cancels:
            node.status, node.reason, node.row = "c", reason, False
        for member in node.members:
            canceled = self._cancel(member, reason, stop=stop)
            # A swarm counts from its start on.
            node.canceled += canceled and started and node.kind == "s"
        return cancels

    def abandon(self, swarm: Node) -> None:
        """Nothing happened in an open swarm for too long."""
        if swarm.idle:
            self._fail_swarm(swarm, swarm)

    def _fire(self, node: Node, templates: list[Node]) -> None:
        for template in templates:
            if template.gone:
                node.problem = template
                continue
            copy = self._copy(template)
            copy.origin = node
            if node.status == "d":
                copy.takes = node.result or node
            else:
                copy.takes_error = node
            copy.closed = copy.kind == "s"
            node.fired.append(copy)
            self._ready(copy)

    def _copy(self, template: Node) -> Node:
        copy = Node(
            kind=template.kind,
            success=[*template.success],
            failure=[*template.failure],
            bound=template.bound,
            tolerance=template.tolerance,
            room=template.room,
            interrupts=template.interrupts,
            closed=template.closed,
            members=[self._copy(member) for member in template.members],
        )
        for member in copy.members:
            member.container = copy
        return copy

    # Reports of runs and of the sweeper: each returns the answer of the script.

    def start(self, task: Node, dispatch: int, attempts: int, *, lease_lapsed: bool) -> str:
        """A delivery asks to run."""
        if task.gone:
            return "gone"
        if task.ended:
            return "ended"
        if any(container.ended for container in task.above):
            return "canceled"
        current = (task.dispatch, task.attempts)
        if (dispatch, attempts) < current:
            return "stale"
        if (dispatch, attempts) == current == task.accepted and task.running and not lease_lapsed:
            return "duplicate"
        if task.running and not lease_lapsed and any(c.kind == "s" and c.status == "a" for c in task.above):
            task.overtaken.append(task.run)
        task.dispatch, task.attempts = task.accepted = (dispatch, attempts)
        task.row, task.running, task.status = False, True, "a"
        task.run += 1
        return "run"

    def _current(self, task: Node, run: int) -> str | None:
        if task.gone:
            return "gone"
        if task.run != run:
            self.forget_overtaken(task, run)
            return "superseded"
        return None

    def forget_overtaken(self, task: Node, run: int) -> None:
        """The last report of a run that was overtaken, or the loss of its worker, frees its slot."""
        if run in task.overtaken:
            task.overtaken.remove(run)
            for container in task.above:
                self._refill(container)

    def _release(self, task: Node) -> None:
        """The last report of a run: it frees the slots that a stopped run kept."""
        freed = task.running and task.status == "c"
        task.running = False
        for container in task.above if freed else ():
            self._refill(container)

    def _drop(self, task: Node) -> bool:
        """What runs no more below an ended container is canceled."""
        above = next((container for container in task.above if container.ended), None)
        if above is not None and not task.ended:
            reason = above.reason or ("skipped" if above.kind == "c" else "swarm_failed")
            task.row = False
            self._end(task, "c", reason)
        return above is not None

    def finish(self, task: Node, run: int, status: str) -> str:
        """A run reports its outcome."""
        if refused := self._current(task, run):
            return refused
        self._release(task)
        if task.ended:
            return "ended"
        task.row = False
        self._end(task, status)
        return "recorded"

    def attempt_failed(self, task: Node, run: int, used: int) -> str:
        """An attempt failed, another is to come."""
        if refused := self._current(task, run):
            return refused
        self._release(task)
        if task.ended:
            return "ended"
        if self._drop(task):
            return "ended"
        task.attempts, task.row, task.offers = used, True, 1
        return "recorded"

    def stopped(self, task: Node, run: int) -> str:
        """A run that was told to stop is over."""
        if refused := self._current(task, run):
            return refused
        was_running = task.running
        self._release(task)
        if was_running and not task.ended and not self._drop(task):
            self._write_row(task)
        return "recorded"

    def lapse(self, task: Node) -> None:
        """The worker of a run was lost."""
        self._release(task)
        if task.ended or self._drop(task):
            return
        task.lapses += 1
        if task.lapses > self.crash_limit:
            self._end(task, "f")
        else:
            self._write_row(task)

    def refused(self, task: Node, dispatch: int) -> str:
        """A row cannot be dispatched, ever."""
        if task.gone:
            return "gone"
        if task.ended:
            return "ended"
        if task.dispatch != dispatch or not task.row:
            return "stale"
        task.row = False
        self._end(task, "f")
        return "recorded"
