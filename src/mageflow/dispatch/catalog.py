"""Which tasks the namespace knows."""

from __future__ import annotations

import difflib

from mageflow.errors import UnrecognizedTaskError
from mageflow.flow.task import TaskDefinition
from mageflow.store.store import Store


class Catalog:
    """Definitions of this process first, then those that any process registered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._local: dict[str, TaskDefinition] = {}
        self._remote: dict[str, TaskDefinition] = {}

    def add(self, definition: TaskDefinition) -> None:
        """Add a task of this process."""
        self._local[definition.name] = definition

    async def find(self, name: str) -> TaskDefinition:
        """Return a definition. No round trip for a known name, else one or two.

        Raises:
            UnrecognizedTaskError: nobody registered it.
        """
        known = self._local.get(name) or self._remote.get(name) or await self._store.definition(name)
        if known is None:
            names = {*self._local, *await self._store.task_names()}
            closest = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
            raise UnrecognizedTaskError(name, self._store.config.namespace, closest)
        if name not in self._local:
            self._remote[name] = known
        return known
