"""What a task manager must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Any, Protocol

from mageflow.config import AcceptParams
from mageflow.flow.command import Dispatch
from mageflow.flow.task import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What is known of a task manager without asking it.

    Args:
        bulk: dispatches that one `submit` takes at the most.
        start_timeout: seconds after which a submitted run that has not started is looked into.
        payload_limit: bytes of a message; `None`: no limit of its own.
        redelivers: it hands what a dead worker held to another by itself (the leases do, in any case).
        interrupts: `interrupt` reaches a run that has not begun.
        probes: `probe` knows what became of a run; it is asked before anything is handed over again.
    """

    bulk: int
    start_timeout: float
    payload_limit: int | None = None
    redelivers: bool = False
    interrupts: bool = False
    probes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the flows' Redis is: a connection class of redis-py, its settings, and two ways to send one command.

    Commands that are sent in the same tick share a pipeline with the flows' own. One that rides waits for the next of
    them for so many seconds; a function makes it when it leaves.
    """

    connection_class: type[Any]
    settings: Mapping[str, Any]
    send: Callable[..., Awaitable[Any]]
    ride: Callable[[Callable[[], tuple[Any, ...]], float], Awaitable[Any]]


class Verdict(Enum):
    """What became of a submitted dispatch."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The answer to one dispatch; `reason` for what was not accepted, the manager's id of the run where it is known."""

    verdict: Verdict
    reason: str = ""
    manager_run: str = ""


ACCEPTED = Submission(verdict=Verdict.ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a function is to be registered.

    Args:
        function: as the manager calls it outside a flow.
        execution_timeout: seconds; the longest random delay is in it.
        param_config: with `CTX_ONLY` and `ALL` the second parameter takes the manager's context.
        durable: it was declared as the manager's durable task, where there is such a thing.
        stagger: the longest random delay, to be added to a time limit that the manager sets where none is given.
        wrap_result: a value that is no mapping is wrapped in one where the manager takes nothing else.
        options: the manager's own.
    """

    function: Callable[..., Any]
    name: str | None = None
    input_validator: Any = None
    retries: int = 0
    execution_timeout: float | None = None
    param_config: AcceptParams = AcceptParams.NO_CTX
    durable: bool = False
    stagger: timedelta = timedelta()
    wrap_result: bool = True
    options: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A run that the task manager hands to a worker."""

    id: str
    dispatch: int
    attempt: int
    manager_run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerRun:
    """A dispatch as the task manager knows it; `manager_run` is empty where its id follows from the other two.

    `task` is its name, `age` the seconds since it was handed over.
    """

    id: str
    dispatch: int
    manager_run: str = ""
    task: str = ""
    age: float = 0.0


class RunState(StrEnum):
    """What a task manager says of a run.

    `RUNNING`: a worker has it; if its code does not begin soon, it was lost on the way. `LOST`: so it was, for good.
    `DONE`: it succeeded, and its worker does not report that; `GONE`: nothing of it will be delivered, and it left no
    outcome.
    """

    QUEUED = "queued"
    RUNNING = "running"
    LOST = "lost"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a run; `reason` for what failed, `result` for what is done."""

    state: RunState
    reason: str = ""
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTask:
    """A function that was registered with the task manager directly.

    Args:
        task: the manager's task object.
        function: the user's own function.
        filled: parameters that the manager fills.
    """

    task: object
    function: Callable[..., Any]
    definition: TaskDefinition
    filled: tuple[str, ...] = ()


class Execution(Protocol):
    """One accepted delivery, from its start to its end."""

    @property
    def attempt(self) -> int:
        """The attempts that were used before: the delivery's, without those that were lost on their way."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop: whatever it reports is discarded."""
        ...

    @property
    def overtaken(self) -> bool:
        """Whether it was told to stop because another run has taken over; known when it has ended."""
        ...

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

    async def released(self) -> None:
        """The run is over without an outcome: the task is dispatched anew."""
        ...

    async def canceled(self) -> None:
        """The task manager's user canceled the run, and it is over: the signature is canceled."""
        ...


class Host(Protocol):
    """The client, as its backend sees it: to be called on the loop on which the manager runs tasks."""

    async def begin(self, delivery: Delivery, task_name: str) -> Execution | str:
        """Ask whether a delivery of the named task may run; a text says why not: it is acknowledged and nothing else.

        Opens the client where it is not open.
        """
        ...

    async def manager_run(self, identifier: str) -> str:
        """Return the task manager's id of the newest run of a signature, or nothing. Two round trips."""
        ...

    def outside(self, manager_run: str) -> Callable[[], None]:
        """A task runs outside of any flow: what it creates is the same again when this run of the manager is retried.

        To be called in the context in which the function runs, what it returns when the function has ended.
        """
        ...

    async def worker_started(self) -> None:
        """A worker of the manager takes deliveries in this process from now on: the lease and the sweeper start.

        To be called by a backend whose workers may be started by the manager's own command; opens the client where it
        is not open. May be repeated.

        Raises:
            StoreUnavailableError: Redis cannot be reached, or may evict records.
        """
        ...

    async def worker_stopped(self) -> None:
        """That worker took its last delivery and its tasks have ended. Closes what `worker_started` opened."""
        ...


class Backend(ABC):
    """A task manager; made with the client that it wraps and the namespace of the flows.

    Deliveries may come twice, late or never: whether one runs is decided by `begin`. Nothing here keeps state of flows.
    Two backends may wrap the same client for two namespaces: a delivery belongs to the one whose namespace it names.
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
    def attach(self, host: Host) -> None:
        """Learn who decides. Called once: deliveries of flows ask it from now on, others run as without us."""

    @abstractmethod
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        """Hand over at most `capabilities.bulk` dispatches; one answer each, in order. None holds up the others."""

    @abstractmethod
    async def open(self, *, serve: int = 0) -> None:
        """Connect; with `serve`, run so many deliveries at a time in this process until `close`.

        May be called again, with `serve`; after `close` it may be opened again, on another loop too. What the manager's
        own command or the user opened before is left as it is.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop taking deliveries, wait for the running ones, disconnect what `open` connected."""

    def filled_parameters(self, task: TaskOptions) -> tuple[str, ...]:  # noqa: ARG002 - nothing by default
        """Return the parameters of a function that the task manager fills: dependencies, its context."""
        return ()

    def check_options(self, options: Mapping[str, Any], where: str) -> None:  # noqa: B027 - any will do by default
        """Refuse options of a start that the manager does not take, with `InvalidArgumentError`."""

    def make_worker(self, *args: Any, **options: Any) -> Any:  # noqa: ARG002 - for managers with workers of their own
        """Return the manager's own worker, made with what `client.worker(...)` was given; `None`: it has none.

        It calls `Host.worker_started` when it takes deliveries and `Host.worker_stopped` when it has ended. Without one
        a worker is a context in which the client serves by `open`.
        """
        return None

    def found(self) -> Sequence[FoundTask]:
        """Return the tasks that were registered with the manager directly and not returned before.

        From now on deliveries of them may be of flows; all others run as before.
        """
        return ()

    def name_of(self, thing: object) -> str | None:  # noqa: ARG002 - nothing by default
        """Return the name that an object of the task manager stands for, where it is no task of this process."""
        return None

    def connect(self, address: Address) -> None:  # noqa: B027 - most have no use for it
        """Learn where the flows' Redis is, before `open`."""

    async def drained(self) -> Collection[str]:
        """Return the tasks of which nothing that was submitted waits to be taken, as far as that is known."""
        return ()

    async def probe(self, runs: Sequence[ManagerRun]) -> Sequence[Finding]:
        """Say what the manager knows of these runs, one answer each, in order; for backends that say `probes`."""
        return [Finding(state=RunState.UNKNOWN)] * len(runs)

    async def interrupt(self, runs: Sequence[ManagerRun]) -> None:  # noqa: B027 - workers stop runs by themselves
        """Cancel these runs at the manager, as far as it can. What has begun is stopped by its worker anyway."""
