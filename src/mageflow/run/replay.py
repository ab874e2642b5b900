"""Idempotent creation: a task that runs again gets the signatures that its earlier run made.

What a task creates is identified by the signature that runs, the kind, the canonical arguments and the occurrence among
equals; the id follows from that, and writing what exists already changes nothing.
"""

from __future__ import annotations

import hashlib
import json

from pydantic_core import from_json, to_json
from ulid import ULID

from mageflow.flow.ids import new_id
from mageflow.run.context import CurrentRun, current_run


class Replay:
    """Gives ids to what is created through one client; `owner` is that client."""

    def __init__(self, owner: object) -> None:
        self._owner = owner

    @property
    def run(self) -> CurrentRun | None:
        """The run whose code creates through this client; `None` outside a flow."""
        run = current_run.get()
        return run if run is not None and run.client is self._owner else None

    def identify(self, *description: object) -> str:
        """Return the id of a new signature: inside a run the same one for the same description, else a fresh one."""
        run = self.run
        if run is None:
            return new_id()
        # A task manager's database may give the keys of a message another order at the next attempt.
        canonical = json.dumps(from_json(to_json([run.id, *description])), sort_keys=True).encode()
        occurrence = run.made.get(canonical, 0)
        run.made[canonical] = occurrence + 1
        identifier = _derived(run.id, canonical + str(occurrence).encode())
        run.asked.add(identifier)
        return identifier

    def part(self, whole: str, role: str, index: int) -> str:
        """Return the id of a new signature that is made along with another."""
        run = self.run
        if run is None or whole not in run.asked:
            return new_id()
        identifier = _derived(whole, f"{role} {index}".encode())
        run.asked.add(identifier)
        return identifier

    def made_before(self, *identifiers: str) -> bool:
        """Whether an earlier run of the same signature may have made all of these. The first run has none before it."""
        run = self.run
        return run is not None and run.run != 1 and run.asked.issuperset(identifiers)

    def starts_again(self, identifier: str) -> bool:
        """Whether a start that was refused as the second is the first of this run: an earlier one started it."""
        run = self.run
        return run is not None and self.made_before(identifier) and identifier not in run.started

    def next_change(self, identifier: str) -> str:
        """Return the mark of the next change of a signature, the same in each run; nothing outside of runs."""
        run = self.run
        if run is None:
            return ""
        number = run.changed.get(identifier, 0)
        run.changed[identifier] = number + 1
        return _derived(run.id, f"change {number} of {identifier}".encode())

    def started(self, identifier: str) -> None:
        """Remember a start of this run."""
        if self.run is not None:
            self.run.started.add(identifier)

    def producer(self, identifier: str) -> tuple[str, int]:
        """Return who adds items to a map, and how many it added before in this run; nothing outside of runs."""
        run = self.run
        return ("", 0) if run is None else (run.id, run.fed.get(identifier, 0))

    def added(self, identifier: str, count: int) -> None:
        """Remember that this run added items to a map."""
        if self.run is not None:
            self.run.fed[identifier] = self.run.fed.get(identifier, 0) + count


def id_outside(namespace: str, manager_run: str) -> str:
    """Return what stands for a signature where a task runs outside of any flow: one id for all attempts of its run."""
    return str(ULID.from_bytes(hashlib.sha256(f"{namespace}:{manager_run}".encode()).digest()[:16]))


def _derived(origin: str, text: bytes) -> str:
    """Return a ULID with the time of `origin` and the digest of both."""
    time = ULID.from_str(origin.partition("#")[0]).bytes[:6]
    return str(ULID.from_bytes(time + hashlib.sha256(origin.encode() + text).digest()[:10]))
