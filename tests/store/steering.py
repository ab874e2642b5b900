"""Steering while earlier steering is still being worked off: rules that every state in between must keep.

Which of several held members gets a slot first depends on where the parts of the work end; the model does not say.

- What has ended stays as it is, what is canceled fires nothing, what is held does not run.
- A verb that is refused changes nothing.
- Members that run at the same moment are never more than the bound, whatever was held and went on in between.
- Once all is worked off, everything waits on something and no slot is withheld.
"""

from __future__ import annotations

from mageflow.flow.signature import Change
from tests.store.snapshot import ENDED, Hash, Snapshot
from tests.store.waiting import leaked_slots, overfull, stalled, withheld_slots
from tests.store.world import World

_OUTCOMES = {"d": '{"value":1}', "f": '{"type":"ValueError","message":"no"}'}


class Steered:
    """A namespace of which only the scripts know how it stands. Its model knows what was never started."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = Snapshot()
        self.deliveries: list[tuple[str, int, int]] = []
        self.accepted: list[tuple[str, int]] = []
        self.turned_away: list[str] = []
        self.ended: dict[str, str] = {}

    # Rules.

    def look(self, *, settled: bool) -> None:
        """Read everything and check what holds at any time; the rest once the continue rows are worked off."""
        if settled:
            self.world.work_off()
        self.state = state = self.world.driver.snapshot()
        self.deliveries.extend(self.world.deliveries)
        self.world.deliveries.clear()
        problems = [*overfull(state), *self._overrun(), *self._changed_ends()]
        if settled:
            problems += [*stalled(state), *leaked_slots(state), *withheld_slots(state)]
        assert not problems, problems
        self._tell_model()

    def _changed_ends(self) -> list[tuple[str, str, str]]:
        """What has ended stays as it is; what is canceled fires nothing."""
        found: list[tuple[str, str, str]] = []
        for identifier in self.state.records:
            status = self.state.status(identifier)
            if self.ended.get(identifier, status) != status:
                found.append((identifier, self.ended[identifier], status))
            if status in ENDED:
                self.ended[identifier] = status
            if status == "c" and self.state.entries("c", identifier):
                found.append((identifier, "fired", status))
        return found

    def _overrun(self) -> list[tuple[str, str]]:
        """More members of a swarm that run something than its bound allows."""
        state, running = self.state, dict[str, set[str]]()
        for identifier in state.runs:
            node = identifier
            while node in state.records and state.record(node)["st"] not in ENDED and "c" in state.record(node):
                running.setdefault(state.record(node)["c"], set()).add(node)
                node = state.record(node)["c"]
        bounds = {i: int(state.record(i).get("mc", "1000000")) for i in running if i in state.records}
        return [(i, "overrun") for i, bound in bounds.items() if state.status(i) == "a" and len(running[i]) > bound]

    def _tell_model(self) -> None:
        """Tell the model what has started or is gone, so that new containers are made of what is there."""
        model = self.world.model
        for root in list(model.roots):
            for node in root.tree():
                record = self.state.records.get(self.world.ids[node])
                if record is None:
                    node.gone = True
                else:
                    node.status, node.told = record["st"], "rd" in record
            if root.gone:
                model.roots.remove(root)

    def known(self) -> dict[str, Hash]:
        """Return the records that a user knows of: all but those that an unfinished draft wrote."""
        hidden = {self.world.ids.get(node) for nodes in self.world.model.drafts.values() for node in nodes}
        hidden |= {*self.world.drafts}
        return {identifier: record for identifier, record in self.state.records.items() if identifier not in hidden}

    # Events.

    def ask(self, *changes: Change) -> str | None:
        """Send changes of a user; what is refused changes nothing."""
        before = self.world.driver.snapshot()
        refused = self.world.commit(changes)
        if refused is not None:
            assert self.world.driver.snapshot().comparable() == before.comparable()
        return refused

    def deliver(self, identifier: str, dispatch: int, attempts: int, *, patient: bool = False) -> str:
        """A delivery asks to run; nothing runs that is held or has ended."""
        before = self.world.driver.snapshot()
        answer = self.world.driver.run("start", identifier, dispatch, attempts, "worker", "")
        status: str = answer[0].decode()
        if status == "run":
            assert before.held(identifier) is None
            assert before.status(identifier) not in ENDED
            self.accepted.append((identifier, answer[4][0]))
        if status in {"held", "canceled"}:
            self.turned_away.append(identifier)
            if not patient:
                self.turn_away()
        return status

    def turn_away(self) -> None:
        """Deliveries that were turned away are taken note of."""
        for identifier in self.turned_away:
            self.world.note(self.world.driver.run("turned_away", identifier))
        self.turned_away.clear()

    def finish(self, identifier: str, run: int, status: str) -> str:
        """A run reports its outcome."""
        answer = self.world.driver.run("finish", identifier, run, status, _OUTCOMES[status])
        return self.world.note(answer)

    def attempt_failed(self, identifier: str, run: int) -> None:
        """An attempt failed, another is to come."""
        used = int(self.world.driver.snapshot().records.get(identifier, {}).get("a", "0")) + 1
        answer = self.world.driver.run("attempt_failed", identifier, run, used, 1000, _OUTCOMES["f"])
        if self.world.note(answer) == "recorded":
            self.deliveries.append((identifier, int(self.world.driver.snapshot().record(identifier)["d"]), used))

    def lapse(self, identifier: str) -> None:
        """A worker is gone, a sweeper finds out."""
        self.world.driver.steer("runs", 0, identifier)
        self.world.sweep()

    def rows(self) -> list[str]:
        """Return the tasks that have a row."""
        return sorted(row for row in self.state.out if row[0] != "!" and row in self.state.records)
