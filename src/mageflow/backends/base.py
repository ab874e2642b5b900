"""What a task manager must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Protocol

from mageflow.config import AcceptParams
from mageflow.flow.command import Dispatch
from mageflow.flow.task import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What is known of a task manager without asking it.

    Args:
        bulk: dispatches that one `submit` takes at the most.
        payload_limit: bytes of a message; `None`: no limit of its own.
        start_timeout: seconds after which a submitted run that has not started is looked into.
    """

    bulk: int
    payload_limit: int | None
    start_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the flows' Redis is: a connection class of redis-py, its settings, and a way to send one command.

    Commands that are sent in the same tick share a pipeline with the flows' own.
    """

    connection_class: type[Any]
    settings: Mapping[str, Any]
    send: Callable[..., Awaitable[Any]]


class Verdict(Enum):
    """What became of a submitted dispatch."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The answer to one dispatch; `reason` for what was not accepted."""

    verdict: Verdict
    reason: str = ""


ACCEPTED = Submission(verdict=Verdict.ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a function is to be registered."""

    function: Callable[..., Any]
    name: str | None = None
    input_validator: Any = None
    retries: int = 0
    execution_timeout: timedelta | float | None = None
    param_config: AcceptParams = AcceptParams.NO_CTX
    options: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A run that the task manager hands to a worker."""

    id: str
    dispatch: int
    attempt: int
    manager_run: str = ""


class Execution(Protocol):
    """One accepted delivery, from its start to its end."""

    async def call(self, message: dict[str, Any], extra: dict[str, Any]) -> Any:
        """Validate the message, run an async function and keep its result."""
        ...

    def call_blocking(self, message: dict[str, Any], extra: dict[str, Any]) -> Any:
        """Do the same for a plain function, in the thread of the caller."""
        ...

    def final(self, error: BaseException) -> bool:
        """Whether no further attempt may follow this error."""
        ...

    async def retried(self, attempts_used: int, delay: float, error: BaseException) -> None:
        """The task manager will run another attempt; to be called before its message leaves."""
        ...

    async def ended(self, error: BaseException | None) -> None:
        """The run is over: record its outcome, dispatch what follows. To be called before the acknowledgement."""
        ...


Begin = Callable[[Delivery, str], Awaitable[Execution | str]]
"""Asks whether a delivery of the named task may run; a text says why not: it is acknowledged and nothing else."""


class Backend(ABC):
    """A task manager.

    Deliveries may come twice, late or never: whether one runs is decided by `begin`. Nothing here keeps state of flows.
    """

    capabilities: Capabilities

    @property
    @abstractmethod
    def manager(self) -> Any:
        """The wrapped client; its attributes are those of our client."""

    @abstractmethod
    def register(self, task: TaskOptions) -> tuple[Any, TaskDefinition]:
        """Register a function with the task manager; returns its task object and how others know it."""

    @abstractmethod
    def filled_parameters(self, task: TaskOptions) -> tuple[str, ...]:
        """Return the parameters of a function that the task manager fills: dependencies, its context."""

    @abstractmethod
    def attach(self, begin: Begin) -> None:
        """From now on deliveries of flows ask `begin`; others run as they would without us."""

    @abstractmethod
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        """Hand over at most `capabilities.bulk` dispatches; one answer each, in order. None holds up the others."""

    @abstractmethod
    async def drained(self) -> Collection[str]:
        """Return the tasks of which nothing that was submitted waits to be taken, as far as that is known."""

    @abstractmethod
    def connect(self, address: Address) -> None:
        """Learn where the flows' Redis is, before `open`."""

    @abstractmethod
    async def open(self, *, serve: int = 0) -> None:
        """Connect; with `serve`, run so many deliveries at a time until `close`. May be called again, with `serve`."""

    @abstractmethod
    async def close(self) -> None:
        """Stop taking deliveries, wait for the running ones, disconnect."""
