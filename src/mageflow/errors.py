"""Every error that MageFlow raises.

    MageflowError
    ├── InvalidArgumentError            (ValueError, TypeError) an argument that a call cannot take
    ├── DefinitionError                 what was described cannot be a flow
    │   ├── UnrecognizedTaskError       a task name that nobody registered
    │   ├── ChainTooShortError          (ValueError) a chain of fewer than two
    │   ├── AlreadyInContainerError     a member that already has a container
    │   ├── CycleError                  a container inside itself
    │   ├── CaseError                   (ValueError) cases of a switch that cannot be told apart
    │   ├── TooDeepError                nesting beyond 64
    │   ├── AmbiguousClientError        module functions with no client, or several
    │   ├── UnknownManagerError         (TypeError) a client that is of no known task manager
    │   └── TaskNameError               (ValueError) a name that a task cannot have
    ├── PayloadError                    arguments, messages and results
    │   ├── InvalidMessageError         (ValueError) does not fit the task's model
    │   ├── NotSerialisableError        (ValueError) is not JSON
    │   └── PayloadTooLargeError        above `payload_limit`
    ├── SwarmError                      adding to a swarm that cannot take it
    │   ├── SwarmIsClosedError
    │   ├── SwarmIsCanceledError
    │   ├── TooManyTasksError
    │   └── TaskAndMsgsDontMatchForSwarmError   (ValueError)
    ├── MoveError                       a transition that the state does not allow
    │   └── IllegalMoveError
    │       ├── AlreadyStartedError
    │       └── TaskAlreadyRunningError
    ├── OutcomeError                    how a flow ended, or did not yet
    │   ├── FlowFailedError
    │   ├── FlowCanceledError
    │   └── ResultTimeoutError          (TimeoutError)
    ├── SyncInLoopError                 a blocking call in a thread that runs an event loop
    ├── LoopStoppedError                the event loop that a blocking call waited for does not run any more
    ├── TransactionError                what a transaction cannot do
    ├── OutsideTransactionError         `kwargs[k] = v` outside a transaction
    ├── SignatureNotFoundError          (KeyError) an unknown or expired key
    ├── BrokenRecordError               a record in Redis that cannot be read
    ├── StoreUnavailableError           Redis cannot be reached or refuses to serve
    ├── EmbeddedServerError             the embedded Valkey cannot be started
    ├── SubmitRefusedError              the task manager refused a task for good
    ├── NonRetryableError               raised by user code: no further attempt
    └── RecordedError                   why a signature failed where no code raised anything
        ├── NoCaseError
        ├── RunFailedError              the task manager failed a run of which no code began
        ├── SwarmAbandonedError
        ├── TooManyReplacementsError
        └── WorkerLostError

What is below `RecordedError` is raised by nobody: it names why a signature failed.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override


class MageflowError(Exception):
    """The root of every error of this library."""


class InvalidArgumentError(MageflowError, ValueError, TypeError):
    """An argument that a call cannot take, whatever the state: of a wrong type, negative, empty; nothing was done."""

    def __init__(self, where: str, wanted: str, given: str) -> None:
        self.where = where
        super().__init__(f"{where}: expected {wanted}, not {given}")


class DefinitionError(MageflowError):
    """What was described cannot be a flow; nothing was stored."""


class UnrecognizedTaskError(DefinitionError):
    """No process of the namespace registered a task of this name; check the spelling or start its worker once."""

    def __init__(self, name: str, namespace: str, closest: Sequence[str] = ()) -> None:
        self.name = name
        self.closest = tuple(closest)
        hint = f"; did you mean {', '.join(map(repr, closest))}?" if closest else ""
        super().__init__(f"no task {name!r} is registered in namespace {namespace!r}{hint}")


class TaskNameError(DefinitionError, ValueError):
    """A task name that is empty, taken by another function, or starts with `mf:`."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"task name {name!r}: {reason}")


class ChainTooShortError(DefinitionError, ValueError):
    """A chain needs at least two members; run a single task as it is."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"a chain needs at least two members, got {count}")


class AlreadyInContainerError(DefinitionError):
    """A signature has one container; make another with `aduplicate()`."""

    def __init__(self, key: str, container: str | None = None) -> None:
        self.key = key
        self.container = container
        where = f" {container}" if container else ""
        super().__init__(f"{key} already is a member of container{where}; use a copy: await signature.aduplicate()")


class CycleError(DefinitionError):
    """A container would contain itself."""

    def __init__(self, key: str, container: str) -> None:
        self.key = key
        self.container = container
        super().__init__(f"{key} contains {container}, so it cannot become a member of it")


class CaseError(DefinitionError, ValueError):
    """The cases of a switch are bools, ints, strings or enums of them, each once, and there is at least one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the cases of a switch: {reason}")


class TooDeepError(DefinitionError):
    """Containers and callbacks nest to depth 64."""

    def __init__(self, key: str, limit: int) -> None:
        self.key = key
        super().__init__(f"{key} would nest deeper than {limit} levels")


class AmbiguousClientError(DefinitionError):
    """A module function cannot tell which client is meant; call the method of the client."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self.namespaces = tuple(namespaces)
        if namespaces:
            text = f"several clients exist (namespaces {', '.join(namespaces)}): call the client's own method"
        else:
            text = "no client exists: create one with mageflow.Mageflow(...)"
        super().__init__(text)


class UnknownManagerError(DefinitionError, TypeError):
    """`Mageflow` got as first argument what is no client of a task manager that a backend is installed for."""

    def __init__(self, manager: object, known: Sequence[str]) -> None:
        kind = type(manager)
        super().__init__(
            f"{kind.__module__}.{kind.__qualname__} is no client of a known task manager ({', '.join(known)}); "
            "a Redis client or URL is the second argument, redis_client="
        )


class PayloadError(MageflowError):
    """Arguments, a message or a result that cannot travel; nothing was stored."""


class InvalidMessageError(PayloadError, ValueError):
    """A message or bound argument that does not fit the model of the task."""

    def __init__(self, task_name: str, problems: Sequence[tuple[str, str]]) -> None:
        self.task_name = task_name
        self.problems = tuple(problems)
        text = "; ".join(f"field {field!r}: {message}" for field, message in problems)
        super().__init__(f"message of task {task_name!r} is invalid: {text}")


class NotSerialisableError(PayloadError, ValueError):
    """A value that JSON cannot hold."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        super().__init__(f"{where} is not JSON-serialisable: {reason}")


class PayloadTooLargeError(PayloadError):
    """A single message or result above `payload_limit`; store the data elsewhere and pass a reference."""

    def __init__(self, where: str, size: int, limit: int) -> None:
        self.where = where
        self.size = size
        self.limit = limit
        super().__init__(f"{where} has {size} bytes, above the limit of {limit} bytes")


class SwarmError(MageflowError):
    """A swarm that cannot take what was added; nothing of the batch was added."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(f"swarm {key} {reason}")


class SwarmIsClosedError(SwarmError):
    """The swarm is closed, done or failed."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "is closed: no more members can be added")


class SwarmIsCanceledError(SwarmError):
    """The swarm was canceled."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "is canceled: no more members can be added")


class TooManyTasksError(SwarmError):
    """The batch would exceed `max_task_allowed`."""

    def __init__(self, key: str, limit: int) -> None:
        self.limit = limit
        super().__init__(key, f"may have {limit} members (max_task_allowed)")


class TaskAndMsgsDontMatchForSwarmError(SwarmError, ValueError):
    """`aio_run_tasks_in_swarm` needs one message for each task."""

    def __init__(self, key: str, tasks: int, messages: int) -> None:
        super().__init__(key, f"got {tasks} tasks and {messages} messages")


class MoveError(MageflowError):
    """The state of a signature does not allow this move; nothing changed."""


class IllegalMoveError(MoveError):
    """A move that the kind or the status of a signature refuses."""

    def __init__(self, key: str, move: str, reason: str) -> None:
        self.key = key
        self.move = move
        super().__init__(f"cannot {move} {key}: {reason}")


class AlreadyStartedError(IllegalMoveError):
    """A signature runs once, with the arguments that it had at its start; run a copy: `aduplicate()`.

    With a `status` it is the change of arguments that came too late.
    """

    def __init__(self, key: str, status: str | None = None) -> None:
        self.status = status
        if status is None:
            super().__init__(key, "start", "it was started before; run a copy: await signature.aduplicate()")
        else:
            reason = f"it is {status}, they are fixed; change those of a copy: await signature.aduplicate()"
            super().__init__(key, "change the arguments of", reason)


class TaskAlreadyRunningError(IllegalMoveError):
    """A task that runs cannot be suspended; `interrupt` stops it."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "suspend", "it runs already; interrupt() stops it")


class OutcomeError(MageflowError):
    """A flow that did not deliver a result."""


class FlowFailedError(OutcomeError):
    """The flow failed; carries the original error."""

    def __init__(self, key: str, type: str, message: str, traceback: str = "", failed_key: str | None = None) -> None:  # noqa: A002 - the public names of the original error
        self.key = key
        self.type = type
        self.message = message
        self.traceback = traceback
        self.failed_key = failed_key or key
        super().__init__(f"{key} failed with {type}: {message}")


class FlowCanceledError(OutcomeError):
    """The flow was canceled."""

    def __init__(self, key: str, reason: str = "canceled") -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key} was canceled ({reason})")


class ResultTimeoutError(OutcomeError, TimeoutError):
    """The result did not come in time; the flow goes on."""

    def __init__(self, key: str, seconds: float) -> None:
        self.key = key
        super().__init__(f"{key} had no result within {seconds:g} s; it goes on")


class SyncInLoopError(MageflowError):
    """`client.sync` was called in a thread that runs an event loop; there, await the client's own methods."""

    def __init__(self) -> None:
        super().__init__("client.sync would block the event loop that runs here: await the client's own method")


class LoopStoppedError(MageflowError):
    """The event loop that a thread waited for has stopped, as its worker did; whether the call arrived is unknown."""

    def __init__(self) -> None:
        super().__init__("the event loop of the client has stopped during the call, as its worker did")


class TransactionError(MageflowError):
    """Waiting for a result inside a transaction, or changing too many existing records; nothing was written."""


class OutsideTransactionError(MageflowError):
    """`kwargs[k] = v` and `kwargs.update(...)` need a transaction; use `await kwargs.aupdate(...)`."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the arguments of {key} change only by: await signature.kwargs.aupdate(...)")


class SignatureNotFoundError(MageflowError, KeyError):
    """No signature has this key: it is wrong, was removed, or its lifetime is over."""

    def __init__(self, key: str, reason: str = "the key is wrong, or its lifetime is over") -> None:
        self.key = key
        self.reason = reason
        super().__init__(key)

    @override
    def __str__(self) -> str:
        return f"no signature {self.key!r}: {self.reason}"


class BrokenRecordError(MageflowError):
    """A record in Redis that cannot be read; see the key it names."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"record {key} is broken: {reason}")


class StoreUnavailableError(MageflowError):
    """Redis cannot be reached, or is not fit to hold flows; `passing`: it did not answer just now, and may again."""

    def __init__(self, address: str, reason: str, *, passing: bool = False) -> None:
        self.address = address
        self.passing = passing
        super().__init__(f"Redis at {address}: {reason}")


class EmbeddedServerError(MageflowError):
    """The embedded server cannot be started; give a Redis URL instead: `Mageflow(redis_client="redis://...")`."""


class SubmitRefusedError(MageflowError):
    """The task manager refused a task for good."""

    def __init__(self, task_name: str, reason: str) -> None:
        self.task_name = task_name
        super().__init__(f"task {task_name!r} was refused: {reason}")


class NonRetryableError(MageflowError):
    """Raise it in a task to end its attempts at once."""


class RecordedError(MageflowError):
    """Why a signature failed where no code raised anything; `FlowFailedError.type` names the class."""


class NoCaseError(RecordedError):
    """No case of a switch equals the result of its chooser, and there is no default."""


class RunFailedError(RecordedError):
    """The task manager says that a run failed, and no code of the task reported it: see its own pages for the run."""

    def __init__(self, key: str, manager_run: str, reason: str) -> None:
        super().__init__(f"{key}: run {manager_run} of the task manager failed: {reason or 'no reason'}")


class SwarmAbandonedError(RecordedError):
    """An open swarm in which nothing ran, was ready or was added for `active_ttl`."""


class TooManyReplacementsError(RecordedError):
    """A task was replaced by the signatures that it returned more often than `max_replacements`."""


class WorkerLostError(RecordedError):
    """The run of a task lost its worker more often than `crash_limit`."""
