"""Names of the keys of a namespace; the twin of the list in `lua/prelude.lua`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key carries the namespace's hash tag, so that a transition is one script on one slot."""

    namespace: str

    def _name(self, name: str) -> str:
        return f"{{mf:{self.namespace}}}:{name}"

    @property
    def outbox(self) -> str:
        """Rows to be dispatched and parts to be continued, by the time when they are due (ms)."""
        return self._name("out")

    @property
    def runs(self) -> str:
        """Accepted runs by the last sign of life of their workers (ms)."""
        return self._name("runs")

    @property
    def drafts(self) -> str:
        """Blocks under way by the time of their expiry (ms)."""
        return self._name("drafts")

    @property
    def tasks(self) -> str:
        """Definitions by task name."""
        return self._name("tasks")

    @property
    def workers(self) -> str:
        """Workers by their last beat (ms)."""
        return self._name("workers")

    @property
    def ended(self) -> str:
        """Channel on which the id of each ended root is published."""
        return self._name("ended")

    @property
    def queue(self) -> str:
        """Stream of the embedded backend."""
        return self._name("queue")

    @property
    def everything(self) -> str:
        """Pattern of all keys of the namespace."""
        return self._name("*")

    def record(self, identifier: str) -> str:
        """Hash of a signature."""
        return self._name(f"s:{identifier}")

    def payloads(self, home: str) -> str:
        """Hash of the payloads of a root or of the members of a container."""
        return self._name(f"b:{home}")

    def members(self, identifier: str) -> str:
        """List of the members of a container."""
        return self._name(f"m:{identifier}")

    def fired(self, identifier: str) -> str:
        """List of the callbacks that a signature fired."""
        return self._name(f"c:{identifier}")

    def waiting_items(self, identifier: str) -> str:
        """List of the items of a map that wait."""
        return self._name(f"i:{identifier}")

    def recorded_items(self, identifier: str) -> str:
        """Sorted set of the items of a map that have a record, by their index."""
        return self._name(f"e:{identifier}")

    def done_items(self, identifier: str) -> str:
        """List of the indices of the items of a map that are done, in the order of their ends."""
        return self._name(f"y:{identifier}")

    def item_results(self, identifier: str, bucket: int) -> str:
        """Hash of the results of a hundred items of a map, by the rest of their indices."""
        return self._name(f"r:{identifier}:{bucket}")

    def slots(self, identifier: str) -> str:
        """Set of the slots of a swarm."""
        return self._name(f"l:{identifier}")
