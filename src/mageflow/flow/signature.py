"""What is written to the store: new signatures and changes of existing ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mageflow.flow.status import Kind

MAX_DEPTH = 64
Verb = Literal["suspend", "interrupt", "resume", "cancel", "remove"]


class Persisted(ABC):
    """What stands for a record. A task that returns one is replaced by it."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The ULID in the key."""

    @property
    @abstractmethod
    def key(self) -> str:
        """`mf:<namespace>:<ulid>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignature:
    """A signature to be written; members come before their container.

    `cases`: of a switch, the values of its members from the second on as JSON, a line each; an empty line: default.
    """

    id: str
    kind: Kind
    body: bytes
    task_name: str | None = None
    container: str | None = None
    index: int | None = None
    message: bytes | None = None
    success: Sequence[str] = ()
    failure: Sequence[str] = ()
    settings: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    cases: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An existing signature that becomes a member; where the container is an existing swarm, an `Add` follows."""

    id: str
    container: str
    index: int | None = None
    message: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The members of a container still to be written, in order."""

    container: str
    ids: Sequence[str]
    waiting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """New or claimed members of an existing swarm; with `run` they are ready at once."""

    swarm: str
    ids: Sequence[str]
    run: bool = False
    close_on_max: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Messages for a map. A producer whose earlier run may have added them says how many it added `before` these."""

    id: str
    messages: Sequence[bytes]
    producer: str = ""
    before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The message that is given with a signature."""

    id: str
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Start a signature `delay` ms after this is written, or at a time in ms since the epoch, by the clock of Redis."""

    id: str
    delay: int = 0
    at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close a swarm."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A change of the bound arguments: a line for the body. In a task that may run again the line holds a `mark`."""

    id: str
    line: bytes
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steer:
    """Suspend, interrupt, resume, cancel or remove a signature with all that is below it."""

    id: str
    verb: Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run of a task asked for, made now or by an earlier run of it; the last of a block."""

    id: str
    run: int
    ids: Sequence[str]


Change = NewSignature | Claim | Members | Add | Items | Message | Run | Close | Patch | Steer | Asked
