"""Statuses and kinds, their letters in Redis, and the legal moves."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The state of a signature."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return not LEGAL_MOVES[self]


_OPEN = frozenset({Status.ACTIVE, Status.SUSPENDED, Status.INTERRUPTED, Status.FAILED, Status.CANCELED})
LEGAL_MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: _OPEN - {Status.FAILED},
    Status.ACTIVE: (_OPEN - {Status.ACTIVE}) | {Status.DONE},
    Status.SUSPENDED: frozenset({Status.PENDING, Status.ACTIVE, Status.INTERRUPTED, Status.CANCELED}),
    Status.INTERRUPTED: frozenset({Status.PENDING, Status.ACTIVE, Status.CANCELED}),
    Status.DONE: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}
"""From each status to those that may follow it."""

STATUS_OF_LETTER = {
    "p": Status.PENDING,
    "a": Status.ACTIVE,
    "s": Status.SUSPENDED,
    "i": Status.INTERRUPTED,
    "d": Status.DONE,
    "f": Status.FAILED,
    "c": Status.CANCELED,
}


class Kind(StrEnum):
    """What a signature is."""

    TASK = "task"
    CHAIN = "chain"
    SWARM = "swarm"
    SWITCH = "switch"

    @property
    def letter(self) -> str:
        """The kind as records hold it."""
        return _LETTERS[self]


KIND_OF_LETTER = {"t": Kind.TASK, "c": Kind.CHAIN, "s": Kind.SWARM, "w": Kind.SWITCH}
_LETTERS = {kind: letter for letter, kind in KIND_OF_LETTER.items()}
