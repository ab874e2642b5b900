"""What a transition asks for: rows to be dispatched, and the values that a message is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mageflow.flow.status import Kind
from mageflow.flow.task import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the outbox: signature, dispatch number, attempts used, offers made."""

    id: str
    dispatch: int
    attempt: int
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A signature as a dispatch sees it: enough to make the message, with those above it.

    `input_value` is the JSON of the value to inject; `None` with an `input_id`: it is to be read.
    """

    id: str
    kind: Kind
    container: str | None
    index: int | None
    body: bytes
    message: bytes | None
    input_id: str | None
    input_value: bytes | None
    error_id: str | None
    origin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What is to be done after a transition; all of it stands in the outbox too."""

    rows: Sequence[Row] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    continues: Sequence[str] = ()

    def with_rows_of(self, other: Ready) -> Ready:
        """Return these rows and those of another, without what is to be continued."""
        return Ready(rows=[*self.rows, *other.rows], nodes={**self.nodes, **other.nodes})


REFERENCE = "mageflow_reference"
"""Reserved name in a message: `[field, id]` of a large value that the runner reads before user code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One run to be submitted to the task manager.

    `flow` is the outermost container that the signature is in, or itself; `container` the nearest.
    """

    id: str
    dispatch: int
    attempt: int
    task: TaskDefinition
    message: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flow: str = ""
    container: str = ""
