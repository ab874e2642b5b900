"""The package of old import names: every name is there, and is MageFlow's own."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import mageflow
import thirdmagic
from mageflow.flow.message import injection_of
from thirdmagic._gone import Gone, NoCounterpartError
from thirdmagic.clients import BaseClientAdapter
from thirdmagic.message import ReturnValueAnnotation
from thirdmagic.utils import deep_merge

NAMES = """
thirdmagic: abounded_field chain sign swarm
thirdmagic.chain: ChainTaskSignature chain
thirdmagic.chain.creator: ChainTaskSignature TaskInputType TaskSignatureConvertible cache_signature chain \
    get_cached_signature resolve_signatures
thirdmagic.chain.model: ChainTaskSignature ContainerTaskSignature HAS_HATCHET MissingSignatureError SignatureStatus \
    TaskSignature
thirdmagic.clients: BaseClientAdapter DefaultClientAdapter
thirdmagic.clients.base: BaseClientAdapter BaseLifecycle DefaultClientAdapter MageflowTaskDefinition
thirdmagic.clients.lifecycle: BaseLifecycle
thirdmagic.consts: MAGEFLOW_TASK_INITIALS REMOVED_TASK_TTL TASK_ID_PARAM_NAME
thirdmagic.container: ContainerTaskSignature Signature
thirdmagic.errors: MageflowError MissingSignatureError MissingSwarmItemError SwarmError SwarmIsCanceledError \
    TaskAndMsgsDontMatchForSwarmError TooManyTasksError UnrecognizedTaskError
thirdmagic.message: DEFAULT_RESULT_NAME ReturnValue ReturnValueAnnotation T
thirdmagic.signature: PauseActionTypes Signature SignatureConfig SignatureRetryCache SignatureStatus TaskStatus \
    retry_cache_ctx
thirdmagic.signature.model: BaseClientAdapter DefaultClientAdapter HAS_HATCHET PauseActionTypes REMOVED_TASK_TTL \
    Signature SignatureConfig SignatureStatus TaskInputType TaskStatus
thirdmagic.signature.retry_cache: RetryCacheState Signature SignatureRetryCache T cache_signature \
    get_cached_signature retry_cache_ctx setup_retry_cache teardown_retry_cache
thirdmagic.signature.status: PauseActionTypes SignatureStatus TaskStatus
thirdmagic.swarm: PublishState SwarmConfig SwarmTaskSignature swarm
thirdmagic.swarm.consts: SWARM_MESSAGE_PARAM_NAME
thirdmagic.swarm.creator: PublishState SignatureOptions SwarmConfig SwarmTaskSignature TaskSignatureConvertible \
    TaskSignatureOptions Unpack cache_signature get_cached_signature swarm
thirdmagic.swarm.model: ContainerTaskSignature HAS_HATCHET PublishState SWARM_MESSAGE_PARAM_NAME Signature \
    SignatureStatus SwarmConfig SwarmIsCanceledError SwarmTaskSignature TaskAndMsgsDontMatchForSwarmError \
    TaskSignature TaskSignatureConvertible TooManyTasksError resolve_signatures
thirdmagic.swarm.state: PublishState
thirdmagic.task: PauseActionTypes SignatureStatus TaskInputType TaskSignature TaskSignatureConvertible TaskStatus \
    resolve_signature resolve_signatures sign
thirdmagic.task.creator: HatchetTaskType Signature TaskSignature TaskSignatureConvertible TaskSignatureOptions \
    TaskStatus Unpack cache_signature get_cached_signature resolve_signature resolve_signatures sign
thirdmagic.task.model: DEFAULT_RESULT_NAME HAS_HATCHET HatchetTaskType MageflowTaskDefinition Signature \
    SignatureStatus TaskSignature UnrecognizedTaskError return_value_field
thirdmagic.task_def: MageflowTaskDefinition
thirdmagic.typing_support: Self Unpack
thirdmagic.utils: DEFAULT_RESULT_NAME HAS_HATCHET HatchetTaskType PropType ReturnValueAnnotation deep_merge \
    get_marked_fields return_value_field
"""
MODULES = {name: names.split() for name, _, names in (line.partition(": ") for line in NAMES.split("\n") if line)}


@pytest.mark.parametrize("module", MODULES)
def test_module_has_its_names(module: str) -> None:
    """Each module of the original is there and has its public names, those and no others."""
    found = import_module(module)
    assert sorted(found.__all__) == MODULES[module]
    assert all(hasattr(found, name) for name in MODULES[module])


def test_names_are_mageflow_s_own() -> None:
    """What has a counterpart is that very object: signatures, verbs, marks, errors, settings."""
    pairs: list[tuple[str, str, object]] = [
        ("thirdmagic.message", "ReturnValue", mageflow.ReturnValue),
        ("thirdmagic.task", "TaskSignature", mageflow.TaskSignature),
        ("thirdmagic.chain", "ChainTaskSignature", mageflow.ChainSignature),
        ("thirdmagic.swarm.model", "SwarmTaskSignature", mageflow.SwarmSignature),
        ("thirdmagic.swarm.model", "SwarmConfig", mageflow.SwarmConfig),
        ("thirdmagic.signature", "Signature", mageflow.Signature),
        ("thirdmagic.signature", "SignatureStatus", mageflow.Status),
        ("thirdmagic.errors", "MissingSignatureError", mageflow.errors.SignatureNotFoundError),
        ("thirdmagic.errors", "MageflowError", mageflow.MageflowError),
    ]
    assert [(m, n) for m, n, ours in pairs if getattr(import_module(m), n) is not ours] == []
    assert (thirdmagic.sign, thirdmagic.chain) == (mageflow.asign, mageflow.achain)
    assert (thirdmagic.swarm, thirdmagic.abounded_field) == (mageflow.aswarm, mageflow.abounded_field)
    assert deep_merge({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_mark_as_an_object_works() -> None:
    """`Annotated[T, ReturnValueAnnotation()]` marks a field as `ReturnValue[T]` does."""

    class Message(BaseModel):
        value: Annotated[int, ReturnValueAnnotation()]

    assert injection_of(Message).result_field == "value"


def test_names_without_a_counterpart_say_so() -> None:
    """Every such name can be imported; calling, subclassing or reading it raises an error that names what to do."""
    gone: list[Any] = [
        thing for module in MODULES for thing in vars(import_module(module)).values() if isinstance(thing, Gone)
    ]
    assert len(gone) > 10
    for thing in gone:
        with pytest.raises(NoCounterpartError, match="has no counterpart: ") as caught:
            thing("anything")
        assert caught.value.name in str(caught.value)
        with pytest.raises(NoCounterpartError):
            thing.attribute  # noqa: B018 - the look-up is the test
    with pytest.raises(NoCounterpartError, match=r"Mageflow\(broker\)"):
        _subclass(BaseClientAdapter)


def _subclass(base: Any) -> type:
    class Mine(base):
        pass

    return Mine


def test_mageflow_does_not_import_it() -> None:
    """`import mageflow` loads nothing of the package."""
    script = "import sys, mageflow; print([name for name in sys.modules if name.startswith('thirdmagic')])"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=25, check=True)
    assert finished.stdout.strip() == "[]"
