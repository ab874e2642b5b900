"""What the store must do, in plain Python: what users ask and what runs report.

The scripts of `mageflow.store` are compared with this model after each step. It knows nothing of keys, budgets or
continue rows; what an event does is done when `settle` returns.
"""

# size: each event of the store is one method, and they share what refuses it

from __future__ import annotations

from tests.node import Node
from tests.transitions import Transitions


class Model(Transitions):
    """All flows of a namespace."""

    def __init__(self, crash_limit: int, max_replacements: int) -> None:
        super().__init__()
        self.crash_limit = crash_limit
        self.max_replacements = max_replacements
        self.newest_start = 0
        """When the row was offered that was offered last among those that started."""

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

    def run(self, node: Node, *, delayed: bool = False) -> str | None:
        """Start a signature, a root perhaps at a later time; a member opens the swarms above it."""
        if refused := self._refuse_run(node, delayed=delayed):
            return refused
        node.early = delayed
        if node.opened_by == "member":
            self._run_own(node)
            return None
        node.told = True
        if node.container is None:
            self._ready(node)
        else:
            self._enter(node.container, node)
        return None

    def _refuse_run(self, node: Node, *, delayed: bool) -> str | None:
        if node.gone:
            return "not_found"
        if node.draft:
            return "illegal"
        if node.container is not None and (node.container.kind != "s" or node.is_item):
            return "illegal"
        if node.effective == "c":
            return "illegal"
        second = node.opened_by == "member" and not node.ended
        if (node.status != "p" or node.told) and not second:
            return "already_started"
        if delayed and (node.container is not None or second):
            return "illegal"
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
        if swarm.template is not None:
            return "illegal"
        return self._cannot_take(swarm, count)

    def _cannot_take(self, swarm: Node, count: int) -> str | None:
        if swarm.effective == "c":
            return "swarm_canceled"
        if swarm.ended or swarm.closed:
            return "swarm_closed"
        if swarm.room is not None and len(swarm.members) + count > swarm.room:
            return "too_many"
        return None

    def add_items(self, target: Node, items: list[Node]) -> str | None:
        """New items for a map; all or none. They stand in its queue from the first."""
        if target.gone:
            return "not_found"
        if target.template is None:
            return "illegal"
        if refused := self._cannot_take(target, len(items)):
            return refused
        for item in items:
            item.container, item.told = target, True
        target.members.extend(items)
        target.queue.extend(items)
        self._refill(target)
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

    # Steering.

    def steer(self, node: Node, verb: str) -> str | None:
        """Suspend, interrupt, resume, cancel or remove; of no effect on what has ended, but for the last."""
        if refused := self._refuse_steer(node, verb):
            return refused
        if verb == "remove":
            self._cancel_by_name(node)
            node.removed = True
            if node.status == "c":
                node.reason = "removed"
        elif self.means(node, verb):
            self._steer_living(node, verb)
        return None

    def means(self, node: Node, verb: str) -> bool:
        """Whether a verb changes anything."""
        if verb == "remove" or node.over:
            return verb == "remove"
        if verb == "suspend":
            return not node.mark and (node.held or "s")[0] != "i"
        if verb == "interrupt":
            return node.mark != "i"
        return verb == "cancel" or node.mark is not None

    def _refuse_steer(self, node: Node, verb: str) -> str | None:
        if node.gone:
            return "not_found"
        if node.draft:
            return "illegal"
        if verb == "suspend" and node.running and not node.mark and not node.over:
            return "running"
        part = node.container is not None or node.origin is not None
        if verb == "remove" and (part or self.references().get(node)):
            return "illegal"
        return None

    def _steer_living(self, node: Node, verb: str) -> None:
        node.recorded = node.is_item
        if verb in {"suspend", "interrupt"}:
            self._set_mark(node, verb[0])
        elif verb == "cancel":
            self._cancel_by_name(node)
        else:
            node.mark = None
            self._release_held(node)

    def held_too_long(self, root: Node) -> None:
        """A root was suspended or interrupted for too long."""
        if root.mark:
            self._cancel_by_name(root)

    def time_comes(self, root: Node) -> None:
        """The time has come at which it is to start."""
        root.early = root.timer = False
        if root.status == "p":
            self._ready(root)

    def abandon(self, swarm: Node) -> None:
        """Nothing happened in an open swarm for too long."""
        if swarm.idle:
            swarm.error = swarm
            self._fail(swarm)

    # Reports of runs and of the sweeper: each returns the answer of the script.

    def start(self, task: Node, dispatch: int, attempts: int, *, lease_lapsed: bool) -> str:
        """A delivery asks to run."""
        if task.gone:
            return "gone"
        if task.ended or task.waits:
            return "ended"
        current = (task.dispatch, task.attempts)
        runs = (dispatch, attempts) == current == task.accepted and task.running and not lease_lapsed
        stops = any(container.ended and container.interrupts for container in task.above)
        if runs and not stops and (task.held is None or task.held[0] == "s"):
            return "duplicate"
        if task.dead is not None:
            return "canceled"
        if task.held is not None:
            return "canceled" if task.held[0] == "c" else "held"
        if task.held_back or (dispatch, attempts) < current:
            return "stale"
        keeping = [one for one in task.above if one.kind == "s" and one.status == "a"]
        if task.running and not lease_lapsed and keeping:
            task.overtaken[task.run] = keeping
        if current != task.accepted:
            task.lost += attempts - task.attempts
        task.dispatch, task.attempts = task.accepted = (dispatch, attempts)
        task.row, task.running, task.status = False, True, "a"
        task.started_at = self.stamps
        self.newest_start = max(self.newest_start, task.offered_at)
        task.run += 1
        return "run"

    def _current(self, task: Node, run: int) -> str | None:
        if task.gone:
            return "gone"
        if task.is_item and not task.recorded:
            self.forget_overtaken(task, run)
            return "ended"
        if task.run != run:
            self.forget_overtaken(task, run)
            return "superseded"
        return None

    def forget_overtaken(self, task: Node, run: int) -> None:
        """The last report of a run that was overtaken, or the loss of its worker, frees its slot."""
        if run in task.overtaken:
            del task.overtaken[run]
            self._jobs.extend((self._refill, container) for container in task.above)

    def _release(self, task: Node) -> bool:
        """The last report of a run: it frees the slots that a stopped run kept. Returns whether it still counted."""
        was_running, task.running = task.running, False
        if was_running and task.status == "c":
            self._jobs.extend((self._refill, container) for container in task.above)
        return was_running

    def _drop(self, task: Node) -> bool:
        """What runs no more below an ended container is canceled."""
        if task.dead is not None and not task.ended:
            self._end(task, "c", task.dead.walked)
        return task.dead is not None

    def finish(self, task: Node, run: int, status: str, choice: str = "") -> str:
        """A run reports its outcome."""
        if refused := self._report(task, run):
            return refused
        if task.by is not None:
            task.result = None
        if choice and task.below_chooser:
            task.choice = choice
        self._end(task, status)
        return "recorded"

    def _report(self, task: Node, run: int) -> str | None:
        """A run reports how it ended; what became of that, if it does not count."""
        if refused := self._current(task, run):
            return refused
        was_running = self._release(task)
        if task.ended or task.by_run == run:
            return "ended"
        if task.outdated:
            return self._discard(task, was_running=was_running)
        return None

    def replace(self, task: Node, run: int, by: Node, *, check: bool) -> str:
        """A run returns a signature: it becomes a member of the task, of the first where that replaced another."""
        if refused := self._report(task, run):
            return refused
        first = task.container if task.container is not None and task.container.kind == "t" else task
        if self._refuses(by, task, first):
            self._end(task, "f")
            return "recorded"
        first.replaced += 1
        task.by, task.by_run, task.check, task.row = by, run, check, False
        if by.ended:
            self._take_over(task, by)
            return "recorded"
        self.roots.remove(by)
        first.members.append(by)
        by.container, by.replaces, by.told = first, task, True
        self._run_own(by)
        if task.dead is not None:
            self._cancel(task, task.dead.walked or "", stop=False)
        elif by.status == "p":
            self._jobs.append((self._ready, by))
        return "recorded"

    def _refuses(self, by: Node, task: Node, first: Node) -> bool:
        if by.gone or by.draft or by.container is not None or by.origin is not None:
            return True
        return by in task.path or first.replaced >= self.max_replacements

    def _take_over(self, task: Node, by: Node) -> None:
        """What has ended already leaves its outcome; the value of a single task is kept with the task."""
        source = by.result or by
        if by.status == "d" and source.kind == "t":
            self._accept_result(task, task, source.choice)
            return
        by.replaces, before = task, by.replaces
        self._replacement_ended(by)
        by.replaces = before

    def attempt_failed(self, task: Node, run: int, used: int, delay: int) -> str:
        """An attempt failed, another is to come."""
        if refused := self._report(task, run):
            return refused
        if self._drop(task):
            return "ended"
        task.attempts, task.row, task.offers, task.offered_at = used, True, 1, delay
        return "recorded"

    def stopped(self, task: Node, run: int) -> str:
        """A run that was told to stop is over."""
        if refused := self._current(task, run):
            return refused
        was_running = self._release(task)
        if was_running and not task.ended:
            self._discard(task, was_running=was_running)
        return "recorded"

    def _discard(self, task: Node, *, was_running: bool) -> str:
        """What an overtaken run reports counts for nothing; the last report of a run lets its task go on."""
        if was_running and not self._drop(task):
            self._ready_again(task)
        return "superseded"

    def turned_away(self, task: Node) -> None:
        """A delivery was told that its task is held or canceled."""
        if task.gone or task.ended or task.running or task.waits:
            return
        if task.held is not None:
            task.row = False
            self._ready_again(task)

    def offered(self, task: Node) -> None:
        """A row goes out to the task manager."""
        task.offers += 1
        task.offered_at = 0

    def overdue(self, task: Node, *, queue_empty: bool) -> bool:
        """The sweeper comes upon a row that is due; returns whether it offers the row again.

        At once, twice at most, if its message must be lost: the queue is empty, or what was offered later has started.
        """
        if task.row and task.held is not None:
            task.row = False
            self._ready_again(task)
            return task.row
        lost = queue_empty or self.newest_start > task.offered_at
        return task.row and (task.offers == 0 or (lost and task.offers <= 2))

    def to_stop(self, task: Node, run: int) -> bool:
        """Whether a run that its worker reports alive is to be stopped."""
        return task.gone or task.run != run or task.ended or task.outdated

    def lapse(self, task: Node) -> None:
        """The worker of a run was lost."""
        self._release(task)
        if task.ended or self._drop(task):
            return
        task.lapses += not task.outdated
        if task.lapses > self.crash_limit:
            self._end(task, "f")
        else:
            self._ready_again(task)

    def refused(self, task: Node, dispatch: int) -> str:
        """A row cannot be dispatched, ever."""
        if task.gone:
            return "gone"
        if task.over:
            return "ended"
        if task.dispatch != dispatch or not task.row:
            return "stale"
        self._end(task, "f")
        return "recorded"
