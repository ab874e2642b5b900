"""The functions that a client knows: how each is called, and what stands for its name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from mageflow.backends.base import FoundTask
from mageflow.errors import TaskNameError
from mageflow.flow.task import TaskDefinition
from mageflow.run.binding import Binding, bind, check_arguments

logger = logging.getLogger("mageflow")


class Tasks:
    """Tasks of one client.

    Args:
        find: returns those that were registered with the task manager directly, each once.
        declared_name: returns the name of a function that is no task of this client yet.
    """

    def __init__(
        self, find: Callable[[], Sequence[FoundTask]], declared_name: Callable[[object], str | None] = lambda _: None
    ) -> None:
        self.bindings: dict[str, Binding] = {}
        self.definitions: dict[str, TaskDefinition] = {}
        self.on_new: Callable[[TaskDefinition], None] | None = None
        """Called for each task that is added from now on."""
        self._find = find
        self._declared_name = declared_name
        self._names: dict[int, tuple[object, str]] = {}

    def add(self, binding: Binding, definition: TaskDefinition, *things: object) -> None:
        """Add a task; `things` stand for its name from now on."""
        definition = definition.described(injection=binding.injection, schema=binding.schema, whole=binding.whole)
        self.bindings[binding.name] = binding
        self.definitions[binding.name] = definition
        for thing in things:
            self._names[id(thing)] = (thing, binding.name)
        if self.on_new is not None:
            self.on_new(definition)

    def find(self) -> None:
        """Add what was registered with the task manager directly; of two of one name the later."""
        for found in self._find():
            name = found.definition.name
            try:
                binding = bind(name, found.function, skip=found.filled)
            except (TypeError, ValueError, NameError, PydanticUserError) as error:
                logger.warning("task %r cannot be part of flows: %s", name, error)
            else:
                self.add(binding, found.definition, found.task, found.function)

    def binding(self, name: str) -> Binding | None:
        """Return how the task of a name is called; `None` where it is not known here."""
        if name not in self.bindings:
            self.find()
        return self.bindings.get(name)

    def model_of(self, name: str) -> type[BaseModel] | None:
        """Return the model of a task's message, where it is known here."""
        binding = self.bindings.get(name)
        return None if binding is None else binding.model

    def check_arguments(
        self,
        name: str,
        arguments: Mapping[str, Any],
        model: type[BaseModel] | None = None,
        *,
        where: str | None = None,
    ) -> None:
        """Refuse arguments of a wrong type: for this model, else the task's own; what is missing may come.

        Raises:
            InvalidMessageError: names the fields, and `where`, by default the task.
        """
        model = model or self.model_of(name)
        if model is not None:
            check_arguments(model, arguments, where or name)

    def name_of(self, thing: object) -> str | None:
        """Return the name that a function or task object stands for."""
        known = self._known(thing)
        if known is None:
            self.find()
            known = self._known(thing)
        return known or self._declared_name(thing)

    def _known(self, thing: object) -> str | None:
        for candidate in (thing, getattr(thing, "original_func", None)):
            found = self._names.get(id(candidate))
            if found is not None:
                return found[1]
        return None

    def check_name(self, name: str) -> None:
        """Refuse a name that a new task cannot have.

        Raises:
            TaskNameError: it is empty, taken or starts with `mf:`.
        """
        TaskDefinition(name=name)
        if name in self.bindings:
            raise TaskNameError(name, "another function is registered under it")
