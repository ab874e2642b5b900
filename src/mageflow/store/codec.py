"""Replies of scripts as values."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mageflow.errors import BrokenRecordError
from mageflow.flow.command import Node, Ready, Row
from mageflow.flow.payload import Body
from mageflow.flow.signature import NewSignature
from mageflow.flow.status import KIND_OF_LETTER, STATUS_OF_LETTER, Kind, Status


def text(value: bytes | None) -> str:
    """Return a reply as a string."""
    return "" if value is None else value.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a transition script returned."""

    status: str
    ready: Ready
    extra: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A signature as stored. Times are seconds since the epoch; `status` is the effective one."""

    id: str
    kind: Kind
    status: Status
    fields: dict[str, str]
    body: Body
    stored_body: bytes = b""
    message: bytes | None = None
    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    result: bytes | None = None
    error: bytes | None = None
    problem: str | None = None
    source: str = ""
    slots: int = field(default=0)
    cases: bytes = b""

    def number(self, name: str) -> int:
        """Return a counter of the record."""
        return int(self.fields.get(name, 0))

    def time(self, name: str) -> float | None:
        """Return a time of the record."""
        return int(self.fields[name]) / 1000 if name in self.fields else None

    @property
    def container(self) -> str | None:
        """The id of its container."""
        return self.fields.get("c")


def decode_answer(reply: list[Any]) -> Answer:
    """Return the answer of a transition script."""
    status, rows, nodes, continues, extra = reply
    return Answer(
        status=text(status),
        ready=Ready(
            rows=[Row(id=text(row[0]), dispatch=row[1], attempt=row[2], offers=row[3]) for row in rows],
            nodes={text(node[0]): _decode_node(node) for node in nodes},
            continues=[text(row) for row in continues],
        ),
        extra=extra,
    )


def _decode_node(node: list[Any]) -> Node:
    return Node(
        id=text(node[0]),
        kind=KIND_OF_LETTER[text(node[1])],
        container=text(node[2]) or None,
        index=int(node[3]) if node[3] else None,
        body=node[4],
        message=node[5] or None,
        input_id=text(node[6]) or None,
        input_value=node[7] or None,
        error_id=text(node[8]) or None,
        origin=text(node[9]) or None,
    )


def node_of(record: Record) -> Node:
    """Return a record as a dispatch sees it."""
    fields = record.fields
    return Node(
        id=record.id,
        kind=record.kind,
        container=record.container,
        index=int(fields["x"]) if "x" in fields else None,
        body=record.stored_body,
        message=record.message,
        input_id=fields.get("in"),
        input_value=None,
        error_id=fields.get("ie"),
        origin=fields.get("o"),
    )


def record_of(new: NewSignature) -> Record:
    """Return the record of a signature that is about to be written."""
    fields = {name: str(value) for name, value in new.settings.items()}
    fields |= {"k": new.kind.letter, "st": "p", "t0": str(int(time.time() * 1000))}
    if new.container is not None:
        fields["c"] = new.container
    if new.index is not None:
        fields["x"] = str(new.index)
    return Record(
        id=new.id,
        kind=new.kind,
        status=Status.PENDING,
        fields=fields,
        body=Body.decode(new.body, new.id),
        stored_body=new.body,
        message=new.message,
        success=tuple(new.success),
        failure=tuple(new.failure),
        source=new.id,
        cases=new.cases,
    )


def decode_record(identifier: str, reply: list[Any] | None, key: str) -> Record | None:
    """Return a record, or `None` where there is none.

    Raises:
        BrokenRecordError: it is not what we wrote.
    """
    if not reply:
        return None
    try:
        flat = [text(item) for item in cast("list[bytes]", reply[0])]
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        kind, status = KIND_OF_LETTER[fields["k"]], STATUS_OF_LETTER[text(reply[1])]
    except (KeyError, UnicodeDecodeError) as error:
        raise BrokenRecordError(key, f"field {error} is missing or unknown") from error
    if reply[2] is None:
        raise BrokenRecordError(key, "it has no body")
    return Record(
        id=identifier,
        kind=kind,
        status=status,
        fields=fields,
        body=Body.decode(reply[2], key),
        stored_body=reply[2],
        message=reply[3],
        success=tuple(text(reply[4]).split()),
        failure=tuple(text(reply[5]).split()),
        result=reply[6],
        error=reply[7],
        problem=text(reply[8]) or None,
        source=text(reply[9]),
        slots=reply[10],
        cases=reply[11] or b"",
    )
