"""Steering while earlier steering is still being worked off: rules that every state in between must keep.

Which of several held members gets a slot first depends on where the parts of the work end; the model does not say.

- What has ended stays as it is, what is canceled fires nothing, what is held does not run.
- A verb that is refused changes nothing.
- Members that run at the same moment are never more than the bound, whatever was held and went on in between.
- Once all is worked off, everything waits on something and no slot is withheld; `why` and `rearm` know that, too.
- A root is kept alive by itself, the callbacks fired below it that have not ended, and the runs below it.
- A task that was replaced waits on the replacement and ends with its outcome.
- Of a switch that is done, only the chooser and the chosen case were carried out.
"""

from __future__ import annotations

import itertools
from collections import Counter

from mageflow.flow.signature import Change
from tests.store.sketch import CHOICES_OF_SWITCHES
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
        self._choices = itertools.cycle(CHOICES_OF_SWITCHES)

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
            problems += [*self._unaware(), *self._lives(), *self._replaced(), *self._unchosen()]
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

    def _unaware(self) -> list[object]:
        """What the scripts say of a signature: it waits on something, there is nothing to mend."""
        driver, found = self.world.driver, list[object]()
        for identifier in self.state.records:
            wait = driver.run("why", identifier)
            if bool(wait) == (self.state.status(identifier) in ENDED) or (wait and wait[0] == b"nothing"):
                found.append((identifier, wait))
        mended = driver.run("rearm", *self.state.records)[4]
        return [*found, *([("rearm", mended)] if mended else [])]

    def top(self, identifier: str) -> str:
        """Return the root of a signature."""
        record = self.state.records.get(identifier, {})
        above = record.get("c") or record.get("o")
        return self.top(above) if above in self.state.records else identifier

    def _lives(self) -> list[object]:
        """What keeps each root from expiring."""
        lives = Counter(self.top(run) for run in self.state.runs if run in self.state.records)
        roots: list[str] = []
        for identifier, record in self.state.records.items():
            if not (record.get("c") or record.get("o")):
                roots.append(identifier)
                lives[identifier] += "lv" in record and record["st"] not in ENDED
            elif "c" not in record and record["st"] not in ENDED:
                lives[self.top(identifier)] += 1
        counted = {root: int(self.state.record(root).get("lv", "0")) for root in roots}
        return [("lv", root, counted[root], lives[root]) for root in roots if counted[root] != lives[root]]

    def _replaced(self) -> list[object]:
        """A task ends with the outcome of what replaced it, and not before."""
        found: list[object] = []
        for identifier, record in self.state.records.items():
            if not self.state.waits_on_other(identifier):
                continue
            status, other = record["st"], self.state.record(record["by"])["st"]
            alike = {"d": "d", "f": "fc", "c": "dfc"}
            if status in ENDED and other not in alike[status]:
                found.append(("replaced", identifier, status, other))
            if status not in ENDED and other in ENDED and "po" not in record:
                found.append(("waits in vain", identifier, status, other))
        return found

    def _unchosen(self) -> list[object]:
        """Cases that were not chosen are canceled."""
        return [
            ("unchosen", member)
            for identifier, record in self.state.records.items()
            if record["k"] == "w" and record["st"] in ENDED
            for index, member in enumerate(self.state.entries("m", identifier))
            if 0 < index != int(record.get("cx", "0")) and self.state.status(member) != "c"
        ]

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

    def endless(self, identifier: str, by: str) -> bool:
        """Return whether a replacement would name the flow of the task as a callback: a flow without an end."""
        seen, todo, state = {by}, [by], self.world.driver.snapshot()
        while todo:
            node = todo.pop()
            record = state.records.get(node, {})
            payload = state.hashes.get(f"b:{record.get('c', node)}", {})
            names = f"{payload.get(f'{node}:s', '')} {payload.get(f'{node}:f', '')}".split()
            below = {*names, *state.entries("m", node), *state.entries("c", node), record.get("by", node)} - seen
            seen |= below
            todo += below
        return by != self.top(identifier) and self.top(identifier) in seen

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
        """A run reports its outcome; one result in five is none that a switch knows."""
        choice = next(self._choices) if status == "d" else ""
        answer = self.world.driver.run("finish", identifier, run, status, _OUTCOMES[status], choice)
        return self.world.note(answer)

    def replace(self, identifier: str, run: int, by: str, *, check: bool) -> str:
        """A run returns a signature; one that checks the result of a replacement calls no function, it succeeds."""
        record = self.world.driver.snapshot().records.get(identifier, {})
        if record.get("ck") == "2" and record.get("n") == str(run) != record.get("br"):
            return self.finish(identifier, run, "d")
        if self.endless(identifier, by):
            return "endless"
        return self.world.note(self.world.driver.run("finish", identifier, run, "r", by, "1" if check else ""))

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
