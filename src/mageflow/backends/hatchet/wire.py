"""What travels with a run of a flow, and the limits of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hatchet_sdk import TriggerWorkflowOptions
from hatchet_sdk.contracts.v1.shared.trigger_pb2 import DesiredWorkerLabels, TriggerWorkflowRequest
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from mageflow.backends.base import Delivery
from mageflow.errors import InvalidArgumentError
from mageflow.flow.command import Dispatch
from mageflow.flow.ids import id_of, key_of

KEY = "mageflow_key"
FLOW = "mageflow_flow"
CONTAINER = "mageflow_container"
WORKFLOW = "mageflow_workflow"
DISPATCH = "mageflow_dispatch"
ATTEMPT = "mageflow_attempt"
PATIENCE = "mageflow_schedule_timeout"
PARENT = "mageflow_parent"
"""Names in the metadata of a run; its dashboard finds runs by them."""
EXACT = "mageflow_exact"
"""The fields of the message that hold numbers which Hatchet's engine changes, as a text that it leaves alone."""
_NAMES = frozenset({KEY, FLOW, CONTAINER, WORKFLOW, DISPATCH, ATTEMPT, PATIENCE, PARENT, EXACT})
_PARENT_OF_RUN = "hatchet__parent_workflow_run_id"
_PARENT_OF_TASK = "hatchet__parent_step_run_id"
"""What Hatchet's engine writes into the metadata of a child, beside the parent's own."""

VALUE = "mageflow_result"
"""Hatchet takes mappings alone as outputs: any other value stands under this name."""
NOTE = "mageflow"
"""The output of a delivery that ran no code says why under this name."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a request; larger ones are refused, and a run with a larger output never ends."""
_ROOM = 64 * 1024
MAX_PAYLOAD = MAX_MESSAGE - _ROOM
_NOT_FOR_FLOWS = {
    "sticky": "none: a flow's run has no parent whose worker it could take; `desired_worker_id` names a worker",
    "key": "none: Hatchet's engine never gets it; a signature is found by its own key",
}
_EXACT_INTEGERS = 2**53
_NULL = b"\\u0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a dispatch can never be submitted."""

    reason: str


def metadata_of_user(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a run without ours."""
    return {name: value for name, value in metadata.items() if name not in _NAMES}


def delivery_of(metadata: Mapping[str, Any], namespace: str, retry_count: int, run: str) -> Delivery | None:
    """Return the delivery that a run is; `None` where it is not of a flow of this namespace.

    Nor is what a task of a flow runs by Hatchet itself: it inherits the metadata.
    """
    key = metadata.get(KEY)
    if not isinstance(key, str) or key != key_of(namespace, key.rpartition(":")[2]) or _is_child(metadata):
        return None
    # Of a workflow of several tasks each has attempts of its own, which Hatchet counts.
    used = int(metadata.get(ATTEMPT, 0)) + (0 if WORKFLOW in metadata else retry_count)
    dispatch = int(metadata.get(DISPATCH, 0))
    return Delivery(id=id_of(namespace, key), dispatch=dispatch, attempt=used, manager_run=run)


def _is_child(metadata: Mapping[str, Any]) -> bool:
    """Whether a run has another parent than the start of its signature named."""
    parents = {metadata.get(_PARENT_OF_RUN), metadata.get(_PARENT_OF_TASK)} - {None}
    return bool(parents) and parents.isdisjoint(metadata.get(PARENT, "").split())


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Refuse what `TriggerWorkflowOptions` does not have, or has for its own client alone."""
    for name, given in options.items():
        if name not in TriggerWorkflowOptions.model_fields:
            raise InvalidArgumentError(where, "the fields of Hatchet's TriggerWorkflowOptions", repr(name))
        if given and name in _NOT_FOR_FLOWS:
            raise InvalidArgumentError(f"{where}, field {name!r}", _NOT_FOR_FLOWS[name], repr(given))
    try:
        TriggerWorkflowOptions.model_validate(options)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise InvalidArgumentError(f"{where}, field {field!r}", problem["msg"], repr(problem["input"])) from error


def request_of(dispatch: Dispatch, namespace: str, workflow: str) -> TriggerWorkflowRequest | Refusal:
    """Return the request of a dispatch, or why the engine would never take it."""
    options = dispatch.options
    message = to_json(dict(dispatch.message))
    changed = {name: value for name, value in dispatch.message.items() if _is_changed(value)}
    exact = to_json(changed) if changed else b""
    size = len(message) + len(exact)
    if size > MAX_PAYLOAD:
        return Refusal(reason=f"its message has {size} bytes, Hatchet takes {MAX_PAYLOAD}")
    if has_null(message):
        return Refusal(reason="its message holds the character \\u0000, which Hatchet's database cannot")
    labels = dispatch.task.labels
    metadata = {
        **labels.get("metadata", {}),
        **options.get("additional_metadata", {}),
        **_metadata(dispatch, namespace),
        **({EXACT: exact.decode()} if exact else {}),
    }
    return TriggerWorkflowRequest(
        name=workflow,
        input=message.decode(),
        additional_metadata=to_json(metadata).decode(),
        priority=options.get("priority"),
        parent_id=options.get("parent_id"),
        parent_task_run_external_id=options.get("parent_step_run_id"),
        child_index=options.get("child_index"),
        child_key=options.get("child_key"),
        desired_worker_id=options.get("desired_worker_id"),
        desired_worker_labels=_labels_of(options.get("desired_worker_label")),
    )


def _is_changed(value: Any) -> bool:
    """Whether a value holds a number that is another when it was a float of 64 bits and lost its point where it can."""
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, int):
        return abs(value) > _EXACT_INTEGERS
    if isinstance(value, Mapping):
        return any(map(_is_changed, cast("Mapping[str, Any]", value).values()))
    return isinstance(value, (list, tuple)) and any(map(_is_changed, cast("Sequence[Any]", value)))


def exact_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the message that the engine changed, as they were; a child inherits those of its parent."""
    return {} if _is_child(metadata) else from_json(metadata.get(EXACT, "{}"))


def _metadata(dispatch: Dispatch, namespace: str) -> dict[str, str]:
    metadata = {
        KEY: key_of(namespace, dispatch.id),
        FLOW: key_of(namespace, dispatch.flow or dispatch.id),
        DISPATCH: str(dispatch.dispatch),
        ATTEMPT: str(dispatch.attempt),
    }
    if "schedule_timeout" in dispatch.task.labels:
        metadata[PATIENCE] = str(dispatch.task.labels["schedule_timeout"])
    if parents := " ".join(filter(None, map(dispatch.options.get, ("parent_id", "parent_step_run_id")))):
        metadata[PARENT] = parents
    if dispatch.task.labels.get("workflow"):
        metadata[WORKFLOW] = dispatch.task.name
    if dispatch.container:
        metadata[CONTAINER] = key_of(namespace, dispatch.container)
    return metadata


def _labels_of(given: Any) -> dict[str, DesiredWorkerLabels]:
    """Return worker labels, which come as a list or by name."""
    named = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {one["key"]: one for one in given or ()}
    found: dict[str, DesiredWorkerLabels] = {}
    for key, label in named.items():
        value = label.get("value")
        number = isinstance(value, int)
        found[key] = DesiredWorkerLabels(
            str_value=None if number else value,
            int_value=value if number else None,
            required=label.get("required", False),
            weight=label.get("weight"),
            comparator=label.get("comparator"),
        )
    return found


def has_null(data: bytes) -> bool:
    r"""Whether JSON holds `\u0000`, after an even number of backslashes: Hatchet's database refuses the character."""
    at = data.find(_NULL)
    while at >= 0:
        before = at
        while before > 0 and data[before - 1 : before] == b"\\":
            before -= 1
        if (at - before) % 2 == 0:
            return True
        at = data.find(_NULL, at + 1)
    return False
