"""What becomes ready, what an end does, what a mark holds: the transitions of the model of the store."""
# size: one transition refers to the next; two files would hide what an event does.

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.lifetimes import Lifetimes
from tests.node import Node


class Transitions(Lifetimes):
    """Transitions happen at once, but for what a mark held: that goes on when everything else of the event is done."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps = 0
        self._jobs: deque[tuple[Callable[[Node], object], Node]] = deque()
        self._releases: deque[Node] = deque()

    def settle(self) -> None:
        """Do what the event has left to be done."""
        while self._jobs or self._releases:
            if self._jobs:
                job, node = self._jobs.popleft()
                job(node)
            else:
                self._release_held(self._releases.popleft())
        self.settle_lifetimes()

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
        if node.status != "p":
            # A member of a chain or switch that was canceled before its turn fails it when its turn comes.
            if node.status == "c" and node.container is not None and node.container.kind in "cw":
                self._member_ended(node.container, node)
            return
        node.told = True
        if self._is_held(node) or self._waits_for_slot(node):
            return
        if node.early:
            node.timer = True
            return
        if node.kind == "t":
            self._write_row(node)
            return
        node.status, node.begun = "a", True
        if node.kind in "cw":
            node.members[0].told = True
            self._ready(node.members[0])
            return
        if node.opened_by is None:
            node.opened_by = "own"
        if node.budget_used_up:
            # Members that were canceled before count.
            self._fail(node)
            return
        if node.opened_by == "own":
            self._run_present(node)
        self._refill(node)

    def _ready_again(self, task: Node) -> None:
        """A task that was stopped, lost its worker or was turned away has a row again, or is held."""
        if not self._is_held(task) and not self._waits_for_slot(task):
            self._write_row(task)

    def _write_row(self, task: Node) -> None:
        task.dispatch += 1
        task.attempts, task.lost = task.attempts - task.lost, 0
        task.row, task.offers = True, 0

    def _refill(self, swarm: Node) -> None:
        if swarm.kind != "s" or swarm.status != "a":
            return
        if swarm.outcome:
            self._give_back_slots(swarm)
            return
        if self._is_held(swarm) or self._waits_for_slot(swarm):
            return
        while swarm.status == "a" and swarm.queue:
            if swarm.bound is not None and swarm.slots_taken >= swarm.bound:
                return
            member = swarm.queue.pop(0)
            member.recorded = member.is_item
            if member.ended:
                continue
            if member.slot and (held := member.held) is not None:
                member.slot, member.held_back = "given", False
                self._hold(member, held[1])
                continue
            swarm.holding.append(member)
            if member.slot:
                member.slot = None
                self._go_on(member)
            else:
                self._ready(member)
        if swarm.status == "a" and not swarm.outcome and swarm.closed and all(m.ended for m in swarm.members):
            self._complete(swarm, "d")

    # Marks.

    def _is_held(self, node: Node) -> bool:
        """Whether a mark keeps it from moving: it waits for the end of that, or is canceled now that it would move."""
        if (held := node.held) is None:
            return False
        mark, by = held
        if mark == "c":
            self._end(node, "c", "canceled")
        else:
            self._hold(node, by)
        return True

    def _hold(self, node: Node, by: Node) -> None:
        if not node.held_back:
            node.held_back = True
            by.holds.append(node)
        self._give_back_slots(node)

    def _give_back_slots(self, node: Node) -> None:
        """What is held gives back its slot once nothing below runs; so do the held containers above it."""
        if node.kind == "s" and node.slots_taken:
            return
        while (container := node.container) is not None:
            if container.kind == "s":
                if node.held is None or container.status != "a":
                    return
                if node in container.holding:
                    container.holding.remove(node)
                    node.slot = "given"
                    self._jobs.append((self._refill, container))
                if container.slots_taken:
                    return
            node = container

    def _ask_for_slot(self, node: Node) -> None:
        if node.slot == "given" and node.container is not None:
            node.slot = "asked"
            node.container.queue.insert(0, node)
            self._jobs.append((self._refill, node.container))

    def _waits_for_slot(self, node: Node) -> bool:
        """Whether it cannot move because it, or a container above, gave its slot back and must get another first."""
        if (container := node.without_slot) is None:
            return False
        if not node.held_back:
            node.held_back = True
            if container is not node:
                container.holds.append(node)
        self._ask_for_slot(container)
        return True

    def _release_held(self, node: Node) -> None:
        """What a mark held looks again; the order stays."""
        held, node.holds = node.holds, []
        for one in reversed(held):
            self._unhold(one)

    def _unhold(self, node: Node) -> None:
        if not node.held_back or node.ended:
            return
        if (held := node.held) is not None:
            mark, by = held
            if mark == "c":
                self._end(node, "c", "canceled")
            else:
                by.holds.insert(0, node)
            return
        container = node.without_slot
        if container is None or (container is node and node.outcome):
            self._go_on(node)
            return
        if container is not node:
            container.holds.insert(0, node)
        self._ask_for_slot(container)

    def _go_on(self, node: Node) -> None:
        """What no mark holds any more goes on where it stopped."""
        node.held_back = False
        self._releases.append(node)
        if node.outcome:
            outcome, node.outcome = node.outcome, None
            if outcome == "d":
                self._complete(node, "d")
            else:
                self._fail(node)
        elif node.status == "p":
            self._jobs.append((self._ready, node))
        elif node.kind == "t":
            if not node.running and not node.row and not node.waits:
                self._write_row(node)
        else:
            self._jobs.append((self._refill, node))

    def _set_mark(self, node: Node, letter: str) -> None:
        """Suspend or interrupt: a row of the node itself goes at once, those below when they are delivered."""
        node.mark = letter
        if letter == "i":
            self._stamp(node)
        if node.row:
            node.row = False
            self._hold(node, node)
        if node.container is not None and node.status == "a":
            self._look_below(node)

    def _stamp(self, node: Node) -> None:
        self.stamps += 1
        node.stamp = self.stamps

    def _look_below(self, node: Node) -> None:
        """What is below may be held already by other marks: then slots are given back."""
        if node.by is not None and node.waits:
            self._look_below(node.by)
        elif node.kind == "t" or node.status == "p":
            if node.held_back:
                self._give_back_slots(node)
        elif node.status == "a" and node.kind in "cw":
            self._look_below(node.current_member)
        elif node.status == "a":
            if not node.slots_taken:
                self._jobs.append((self._refill, node))
            for member in [*node.holding]:
                self._look_below(member)

    def _cancel_by_name(self, node: Node) -> None:
        """Nothing more starts, what runs is stopped, no callbacks fire, the container is told."""
        if node.ended:
            return
        node.mark, node.row = "c", False
        self._stamp(node)
        in_turn = node.container is not None and node.container.kind in "cw"
        self._end(node, "c", "canceled", quietly=in_turn and not node.told)
        self._jobs.append((self._cancel_fired, node))

    def _cancel_fired(self, node: Node) -> None:
        """A cancel ends the callbacks that were fired below, too."""
        for part in [*node.tree()]:
            if part.origin is not None and part is not node:
                self._end(part, "c", "canceled")

    # What the end of a signature does.

    def _complete(self, container: Node, status: str) -> None:
        """A container is complete; under a mark it ends, and fires callbacks, at resume."""
        held = container.held
        if held is not None and held[0] != "c":
            container.outcome = status
            self._hold(container, held[1])
        else:
            self._end(container, status)

    def _fail(self, container: Node) -> None:
        """A container fails, its error is known."""
        self._complete(container, "f")

    def _end(self, node: Node, status: str, reason: str | None = None, *, quietly: bool = False) -> None:
        """Record the end; `quietly`: its container is told later."""
        if node.ended:
            return
        if status != "c" and (node.held or "s")[0] == "c":
            status, reason, by_mark = "c", "canceled", True
        else:
            by_mark = False
        node.status, node.reason, node.row, node.timer = status, reason, False, False
        self._end_members(node, status, reason, failed=by_mark or status == "f")
        self._releases.append(node)
        if status == "d":
            self._fire(node, node.success)
        elif status == "f":
            self._fire(node, node.failure)
        if node.container is not None and not quietly:
            self._member_ended(node.container, node)
        if node.is_item and status == "d":
            node.recorded = bool(node.by or node.fired or node.holds)

    def _end_members(self, node: Node, status: str, reason: str | None, *, failed: bool) -> None:
        """What the end of a signature ends below it."""
        if node.kind == "t":
            self._cancel_replacement(node)
        elif node.members and status != "d":
            node.begun = True
            reason = ("swarm_failed" if node.kind == "s" else "skipped") if failed else reason or "canceled"
            node.walked = node.walked or reason
            for member in node.members:
                self._cancel(member, node.walked, stop=node.interrupts if failed else True)
        elif node.kind == "w":
            node.walked = node.walked or "skipped"
            for case in node.members[1:]:
                self._cancel(case, node.walked, stop=False)

    def _cancel(self, node: Node, reason: str, *, stop: bool) -> None:
        """Cancel what has not ended below a container that has; what runs goes on unless it is to stop."""
        if node.mark:
            self._releases.append(node)
        if node.kind == "t":
            if node.waits and node.by is not None and not stop:
                self._cancel(node.by, reason, stop=False)
            if not node.ended and (stop or not node.runs_on):
                node.status, node.reason, node.row, node.timer = "c", reason, False, False
            if node.status == "c" and (stop or not node.waits):
                self._cancel_replacement(node)
            node.walked = node.walked or reason
            return
        if not node.ended:
            node.begun = node.begun or node.status == "a"
            node.status, node.reason, node.timer = "c", reason, False
        node.walked = node.walked or reason
        for member in node.members:
            self._cancel(member, node.walked, stop=stop)

    def _cancel_replacement(self, task: Node) -> None:
        """What replaced a canceled task is canceled."""
        if task.status == "c" and task.by is not None and task.waits:
            task.walked = task.walked or task.reason
            self._cancel(task.by, task.walked or "canceled", stop=True)

    def _member_ended(self, container: Node, member: Node) -> None:
        if member in container.holding:
            container.holding.remove(member)
        for above in (container, *container.above):
            if above.ended and above.holds and not above.lingers:
                self._releases.append(above)
        if container.status == "p" and container.kind == "s":
            container.canceled_early += 1
            container.error = member.error or member
        if container.status == "a" and container.kind == "s":
            container.done += member.status == "d"
            container.failed += member.status == "f"
        if container.kind == "t":
            self._replacement_ended(member)
        elif container.outcome:
            self._refill(container)
        elif container.status == "a":
            goes_on = {"c": self._chain_goes_on, "w": self._switch_goes_on, "s": self._swarm_goes_on}
            goes_on[container.kind](container, member)

    def _chain_goes_on(self, chain: Node, member: Node) -> None:
        place = chain.members.index(member) + 1
        if member.status != "d":
            chain.error = member.error or member
            self._fail(chain)
        elif place < len(chain.members):
            following = chain.members[place]
            following.takes, following.told = member.result or member, True
            self._ready(following)
        else:
            chain.result = member.result or member
            self._complete(chain, "d")

    def _switch_goes_on(self, switch: Node, member: Node) -> None:
        leaf = member.result or member
        if member.status != "d":
            switch.error = member.error or member
            self._fail(switch)
        elif member is not switch.members[0]:
            switch.result = leaf
            self._complete(switch, "d")
        else:
            places = [i for i, value in enumerate(switch.cases, 1) if value and value == leaf.choice]
            places += [i for i, value in enumerate(switch.cases, 1) if not value]
            if not places:
                switch.error = switch
                self._fail(switch)
                return
            switch.chosen = places[0]
            switch.members[switch.chosen].told = True
            self._ready(switch.members[switch.chosen])

    def _replacement_ended(self, by: Node) -> None:
        """The signature that replaced a task has ended: so does the task, or it checks the result."""
        task = by.replaces
        if task is None or task.ended:
            return
        if (by.status == "c" or task.held is not None) and task.dead is not None:
            self._end(task, "c", task.dead.walked)
        elif by.status != "d":
            task.error = by.error or by
            self._complete(task, "f")
        else:
            source = by.result or by
            self._accept_result(task, source, source.choice)

    def _accept_result(self, task: Node, source: Node, choice: str | None) -> None:
        task.result, task.choice = source, choice or task.choice
        if not task.check or task.dead is not None:
            self._complete(task, "d")
            return
        task.checking = True
        self._ready_again(task)

    def _swarm_goes_on(self, swarm: Node, member: Node) -> None:
        if member.status != "d" and swarm.budget_used_up:
            swarm.error = member.error or member
            self._fail(swarm)
        else:
            self._refill(swarm)

    def _fire(self, node: Node, templates: list[Node]) -> None:
        for template in templates:
            if template.gone or template.mark == "c":
                node.problem = template
                continue
            copy = self.copy(template)
            copy.origin = node
            if node.status == "d":
                copy.takes = node.result or node
            else:
                copy.takes_error = node
            copy.closed = copy.kind == "s"
            node.fired.append(copy)
            self._jobs.append((self._ready, copy))

    def copy(self, template: Node) -> Node:
        """Return a signature like this one, with all members."""
        copy = Node(
            kind=template.kind,
            success=[*template.success],
            failure=[*template.failure],
            bound=template.bound,
            tolerance=template.tolerance,
            room=template.room,
            interrupts=template.interrupts,
            closed=template.closed,
            cases=template.cases,
            plan=template.plan,
            members=[self.copy(member) for member in template.members if template.kind != "t"],
        )
        for member in copy.members:
            member.container = copy
        return copy
