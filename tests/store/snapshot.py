"""Everything that a namespace holds at one moment, by the names of `lua/prelude.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any

INFRASTRUCTURE = frozenset(
    {"out", "runs", "workers", "tasks", "lo", "drafts", "beat", "gap", "ended", "queue", "stamp", "ask"}
)
"""Keys that stay: bounded, or emptied by what happens to the flows."""

Hash = dict[str, str]
ENDED = frozenset("dfc")


@dataclass(kw_only=True)
class Snapshot:
    """Keys without their prefix, by type. `expiring`: those with a lifetime."""

    hashes: dict[str, Hash] = field(default_factory=dict[str, Hash])
    lists: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    sets: dict[str, set[str]] = field(default_factory=dict[str, "set[str]"])
    scores: dict[str, dict[str, float]] = field(default_factory=dict[str, "dict[str, float]"])
    strings: Hash = field(default_factory=Hash)
    expiring: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, reply: Sequence[Sequence[Any]], prefix: str) -> Snapshot:
        """Read the reply of the dumping script, without notes of operations and what lives for milliseconds only."""
        found = cls()
        for raw, kind, lifetime, value in sorted(reply, key=itemgetter(0)):
            name: str = raw.decode().removeprefix(prefix)
            if 0 <= lifetime < 100 or name.startswith("op:"):
                continue
            if lifetime >= 0:
                found.expiring.add(name)
            found._take(name, kind, value)
        return found

    def _take(self, name: str, kind: bytes, value: Any) -> None:
        if kind == b"string":
            self.strings[name] = value.decode()
            return
        values = [item.decode() for item in value]
        if kind == b"hash":
            self.hashes[name] = dict(zip(values[::2], values[1::2], strict=True))
        elif kind == b"list":
            self.lists[name] = values
        elif kind == b"set":
            self.sets[name] = set(values)
        else:
            self.scores[name] = dict(zip(values[::2], map(float, values[1::2]), strict=True))

    @property
    def out(self) -> dict[str, float]:
        """Rows of the outbox and continue rows."""
        return self.scores.get("out", {})

    @property
    def runs(self) -> dict[str, float]:
        """Accepted runs."""
        return self.scores.get("runs", {})

    @property
    def continues(self) -> list[str]:
        """Continue rows that are to be worked off at once."""
        return [row for row in self.out if row[0] == "!" and row[1] not in "aduz"]

    @cached_property
    def records(self) -> dict[str, Hash]:
        """Records by id; items of maps that have none are there as they read."""
        written = {name[2:]: record for name, record in self.hashes.items() if name.startswith("s:")}
        items = (item for name, record in written.items() if "it" in record for item in self.items(name))
        return written | {item: self._unwritten(item) for item in items if item not in written}

    def items(self, identifier: str) -> list[str]:
        """Return the ids of the items of a map."""
        return [f"{identifier}#{index}" for index in range(int(self.hashes[f"s:{identifier}"]["nm"]))]

    def waiting_items(self, identifier: str) -> list[str]:
        """Return those that have not had their turn: the last ones."""
        waiting = len(self.lists.get(f"i:{identifier}", []))
        return self.items(identifier)[-waiting:] if waiting else []

    def _unwritten(self, item: str) -> Hash:
        """Return what stands for an item of a map without a record: it waits, or is done and its result is kept."""
        name, _, index = item.partition("#")
        waits = item in self.waiting_items(name)
        assert waits or str(int(index) % 100) in self.hashes[f"r:{name}:{int(index) // 100}"], item
        return {"k": "t", "st": "p" if waits else "d", "c": name, "rd": "1"}

    def record(self, identifier: str) -> Hash:
        """Return a record."""
        return self.records[identifier]

    def entries(self, kind: str, identifier: str) -> list[str]:
        """Return a list: `m` members, `c` fired, `w` waiting, `q` ready."""
        if kind == "m" and "it" in self.records.get(identifier, ()):
            return self.items(identifier)
        return self.lists.get(f"{kind}:{identifier}", [])

    def slots(self, identifier: str) -> set[str]:
        """Return the slots of a swarm."""
        return self.sets.get(f"l:{identifier}", set())

    def dead(self, identifier: str) -> str | None:
        """Return the nearest container above that has ended."""
        container = self.record(identifier).get("c")
        while container is not None and f"s:{container}" in self.hashes:
            record = self.record(container)
            if record["st"] in ENDED:
                return container
            container = record.get("c")
        return None

    def held(self, identifier: str) -> tuple[str, str] | None:
        """Return the strongest mark on the path of a signature and the nearest node that carries it."""
        found: tuple[str, str] | None = None
        node: str | None = identifier
        while node is not None and node in self.records:
            record = self.record(node)
            mark = record.get("mk", "")
            if mark and (mark == "c" or record["st"] not in ENDED):
                found = (mark, node) if found is None or "sic".index(mark) > "sic".index(found[0]) else found
            node = record.get("c") or record.get("o")
        return found

    def status(self, identifier: str) -> str:
        """Return the effective status: what has not ended below an ended container is canceled, but running tasks.

        Suspended and interrupted ones are told by `held`.
        """
        record = self.record(identifier)
        if record["st"] in ENDED:
            return record["st"]
        if (held := self.held(identifier)) is not None and held[0] == "c":
            return "c"
        if self.dead(identifier) is None:
            return record["st"]
        code = self.code(identifier)
        return "a" if self.record(code)["k"] == "t" and code in self.runs else "c"

    def waits_on_other(self, identifier: str) -> bool:
        """Return whether a task waits on the signature that replaced it."""
        record = self.record(identifier)
        return record.get("by") in self.records and record.get("ck") != "2"

    def replacements(self, identifier: str) -> list[str]:
        """Return the signatures that replaced a task, one after the other, and hang below it."""
        found: list[str] = []
        by = self.record(identifier).get("by")
        while by in self.records and self.record(by).get("c") == identifier:
            found.append(by)
            by = self.record(by).get("by")
        return found

    def code(self, identifier: str) -> str:
        """Return the signature whose code runs for a task: that which replaced it, or the task itself."""
        while self.waits_on_other(identifier):
            identifier = self.record(identifier)["by"]
        return identifier

    def staying(self) -> list[str]:
        """Return the keys that would stay for ever, infrastructure aside."""
        named = {*self.hashes, *self.lists, *self.sets, *self.scores, *self.strings}
        return sorted(n for n in named - self.expiring - INFRASTRUCTURE if not n.startswith("ix:"))

    def comparable(self) -> Any:
        """Return what must be equal before and after a call that changes nothing."""
        return (self.hashes, self.lists, self.sets, self.scores, self.strings, self.expiring)
