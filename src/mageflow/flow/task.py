"""Tasks as every process of the namespace knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mageflow.errors import TaskNameError
from mageflow.flow.ids import PREFIX
from mageflow.flow.payload import Injection, dump, load

MAX_DEFINITION = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """A registered function: its name, what it takes, and the limits that travel with each message.

    Args:
        name: unique in the namespace.
        retries: further attempts after the first.
        execution_timeout: seconds; `None`: unlimited.
        injection: where return values and errors go.
        schema: JSON schema of the input model, if there is one.
        labels: the manager's own options, as data.
        whole: the message is the first argument; else its fields are arguments by name.
    """

    name: str
    retries: int = 0
    execution_timeout: float | None = None
    injection: Injection = field(default_factory=Injection)
    schema: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = True

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(PREFIX):
            raise TaskNameError(self.name, f"must not be empty nor start with {PREFIX!r}")

    def described(self, *, injection: Injection, schema: Mapping[str, Any] | None, whole: bool) -> TaskDefinition:
        """Return it with what its function says about messages."""
        return replace(self, injection=injection, schema=schema, whole=whole)

    def encode(self) -> bytes:
        """Return the stored form."""
        data = {
            "retries": self.retries,
            "execution_timeout": self.execution_timeout,
            "injection": self.injection.encode(),
            "schema": self.schema,
            "labels": self.labels,
            "whole": self.whole,
        }
        return dump(data, f"task {self.name!r}", MAX_DEFINITION)

    @classmethod
    def decode(cls, name: str, data: bytes) -> TaskDefinition:
        """Read the stored form."""
        values = load(data, f"task {name!r}")
        return cls(
            name=name,
            retries=values["retries"],
            execution_timeout=values["execution_timeout"],
            injection=Injection.decode(values["injection"]),
            schema=values["schema"],
            labels=values["labels"],
            whole=values.get("whole", True),
        )
