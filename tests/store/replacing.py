"""Switches and tasks that return signatures: rules that every state must keep, beside those of steering.

- No script errors. `why` and `rearm` know what each signature waits on.
- A root is kept alive by itself, the callbacks fired below it that have not ended, and the runs below it.
- A task that was replaced waits on the replacement and ends with its outcome.
- Of a switch that is done, only the chooser and the chosen case were carried out.
"""

from __future__ import annotations

import itertools
from collections import Counter

from typing_extensions import override

from mageflow.config import MageflowConfig, TTLConfig
from mageflow.flow.signature import Change, Claim, Members, NewSignature
from mageflow.flow.status import KIND_OF_LETTER
from mageflow.store import scripts
from tests.store.driver import Driver
from tests.store.play import Numbers
from tests.store.snapshot import ENDED
from tests.store.steering import Steered
from tests.store.world import CRASH_LIMIT, World

MAX_REPLACEMENTS = 3
_LIFETIMES = TTLConfig(active_ttl=1000, done_ttl=1000)
_SETTINGS = scripts.settings_argument(
    MageflowConfig(crash_limit=CRASH_LIMIT, ttl=_LIFETIMES, inline_limit=20, max_replacements=MAX_REPLACEMENTS)
)
CASES = (b"1", b"1\n", b'true\n"two"\n')
"""Of switches with one, two and three cases; an empty line is the default."""


class Replacing(Steered):
    """A namespace without a model."""

    def __init__(self, driver: Driver, *, budget: int, page: int) -> None:
        super().__init__(World(driver, budget=budget, page=page, lazy=True))
        driver.settings = _SETTINGS
        self._numbers = itertools.count(1)
        self._choices = itertools.cycle(["1", '"two"', "true", "9", ""])

    # Rules.

    @override
    def look(self, *, settled: bool) -> None:
        """Check the rules of steering, then those of replacements and switches."""
        super().look(settled=settled)
        if settled:
            problems = [*self._unaware(), *self._lives(), *self._replaced(), *self._unchosen()]
            assert not problems, problems

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

    def write(self, numbers: Numbers, kind: str, depth: int) -> str:
        """Write a new root, perhaps of what is there; return its id."""
        changes: list[Change] = []
        identifier = self._sketch(numbers, kind, depth, changes)
        self.ask(*changes)
        return identifier

    def _sketch(
        self,
        numbers: Numbers,
        kind: str,
        depth: int,
        changes: list[Change],
        place: tuple[str, int | None] = ("", None),
    ) -> str:
        identifier = f"R{next(self._numbers)}"
        settings: dict[str, int | str] = {}
        if kind != "t":
            count = numbers.below(4) if kind == "s" else 2 + numbers.below(3)
            members = [self._member(numbers, kind, depth, changes, (identifier, i)) for i in range(count)]
            settings["nm"] = count
            if members:
                changes.append(Members(container=identifier, ids=members, waiting=kind == "s"))
        if kind == "s":
            settings |= {"mc": 1 + numbers.below(2), "os": ("finish", "interrupt")[numbers.below(2)]}
            settings |= {"cl": 1 - numbers.chance(4)} | ({"sf": 1} if numbers.chance(3) else {})
        changes.append(
            NewSignature(
                id=identifier,
                kind=KIND_OF_LETTER[kind],
                body=b"{}",
                task_name="work" if kind == "t" else None,
                container=place[0] or None,
                index=place[1],
                success=self._templates(numbers),
                failure=self._templates(numbers),
                settings=settings,
                cases=CASES[int(settings["nm"]) - 2] if kind == "w" else b"",
            )
        )
        return identifier

    def _member(self, numbers: Numbers, kind: str, depth: int, changes: list[Change], place: tuple[str, int]) -> str:
        container, index = place[0], None if kind == "s" else place[1]
        free = [i for i in self.fresh() if i not in {change.id for change in changes if isinstance(change, Claim)}]
        if numbers.chance(5) and (claimed := numbers.one(free)):
            changes.append(Claim(id=claimed, container=container, index=index))
            return claimed
        below = "tttcsw"[numbers.below(6)] if depth > 1 else "t"
        return self._sketch(numbers, below, depth - 1, changes, (container, index))

    def _templates(self, numbers: Numbers) -> list[str]:
        small = [i for i in self.fresh() if len(self.state.entries("m", i)) <= 3]
        return [template] if numbers.chance(5) and (template := numbers.one(small)) else []

    def fresh(self) -> list[str]:
        """Return the roots that were never started."""
        records = self.known().items()
        return [i for i, r in records if r["st"] == "p" and not {"rd", "c", "o"} & {*r}]

    @override
    def finish(self, identifier: str, run: int, status: str) -> str:
        """A run reports its outcome; one result in five is none that a switch knows."""
        choice = next(self._choices) if status == "d" else ""
        answer = self.world.driver.run("finish", identifier, run, status, '{"value":1}', choice)
        return self.world.note(answer)

    def replace(self, identifier: str, run: int, by: str, *, check: bool) -> str:
        """A run returns a signature; one that checks the result of a replacement calls no function, it succeeds."""
        record = self.world.driver.snapshot().records.get(identifier, {})
        if record.get("ck") == "2" and record.get("n") == str(run) != record.get("br"):
            return self.finish(identifier, run, "d")
        if self.endless(identifier, by):
            return "endless"
        return self.world.note(self.world.driver.run("finish", identifier, run, "r", by, "1" if check else ""))
