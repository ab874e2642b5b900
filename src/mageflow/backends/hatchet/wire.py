"""What travels with a run of a flow, and the limits of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from hatchet_sdk.contracts.v1.shared.trigger_pb2 import DesiredWorkerLabels, TriggerWorkflowRequest
from pydantic_core import to_json

from mageflow.backends.base import Delivery
from mageflow.flow.command import Dispatch
from mageflow.flow.ids import id_of, key_of

KEY = "mageflow_key"
FLOW = "mageflow_flow"
CONTAINER = "mageflow_container"
WORKFLOW = "mageflow_workflow"
DISPATCH = "mageflow_dispatch"
ATTEMPT = "mageflow_attempt"
PATIENCE = "mageflow_schedule_timeout"
"""Names in the metadata of a run; its dashboard finds runs by them."""

VALUE = "mageflow_result"
"""Hatchet takes mappings alone as outputs: any other value stands under this name."""
NOTE = "mageflow"
"""The output of a delivery that ran no code says why under this name."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a request; larger ones are refused, and a run with a larger output never ends."""
_ROOM = 64 * 1024
MAX_PAYLOAD = MAX_MESSAGE - _ROOM
_NULL = b"\\u0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a dispatch can never be submitted."""

    reason: str


def delivery_of(metadata: Mapping[str, Any], namespace: str, retry_count: int, run: str) -> Delivery | None:
    """Return the delivery that a run is; `None` where it is not of a flow of this namespace."""
    key = metadata.get(KEY)
    if not isinstance(key, str) or key != key_of(namespace, key.rpartition(":")[2]):
        return None
    # Of a workflow of several tasks each has attempts of its own, which Hatchet counts.
    used = int(metadata.get(ATTEMPT, 0)) + (0 if WORKFLOW in metadata else retry_count)
    dispatch = int(metadata.get(DISPATCH, 0))
    return Delivery(id=id_of(namespace, key), dispatch=dispatch, attempt=used, manager_run=run)


def request_of(dispatch: Dispatch, namespace: str, workflow: str) -> TriggerWorkflowRequest | Refusal:
    """Return the request of a dispatch, or why the engine would never take it."""
    options = dispatch.options
    message = to_json(dict(dispatch.message))
    if len(message) > MAX_PAYLOAD:
        return Refusal(reason=f"its message has {len(message)} bytes, Hatchet takes {MAX_PAYLOAD}")
    if has_null(message):
        return Refusal(reason="its message holds the character \\u0000, which Hatchet's database cannot")
    labels = dispatch.task.labels
    metadata = {
        **labels.get("metadata", {}),
        **options.get("additional_metadata", {}),
        **_metadata(dispatch, namespace),
    }
    return TriggerWorkflowRequest(
        name=workflow,
        input=message.decode(),
        additional_metadata=json.dumps(metadata),
        priority=options.get("priority"),
        parent_id=options.get("parent_id"),
        parent_task_run_external_id=options.get("parent_step_run_id"),
        child_index=options.get("child_index"),
        child_key=options.get("child_key"),
        desired_worker_id=options.get("desired_worker_id"),
        desired_worker_labels=_labels_of(options.get("desired_worker_label")),
    )


def _metadata(dispatch: Dispatch, namespace: str) -> dict[str, str]:
    metadata = {
        KEY: key_of(namespace, dispatch.id),
        FLOW: key_of(namespace, dispatch.flow or dispatch.id),
        DISPATCH: str(dispatch.dispatch),
        ATTEMPT: str(dispatch.attempt),
    }
    if "schedule_timeout" in dispatch.task.labels:
        metadata[PATIENCE] = str(dispatch.task.labels["schedule_timeout"])
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
