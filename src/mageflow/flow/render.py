"""The message of a task: a deep merge of what its containers and it were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mageflow.flow.payload import Json, merge
from mageflow.flow.status import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one signature on the path adds: its bound arguments and the message given with it."""

    kind: Kind
    index: int | None
    kwargs: Json
    message: Json


def merged_message(path: Sequence[Layer]) -> Json:
    """Return the message of `path[0]`; the containers follow, innermost first.

    Later wins: messages of the containers (outermost first; a chain's reaches its first member only), their bound
    arguments, the signature's own, the message given with the signature itself. For a case of a switch its chooser
    counts as a container between the two.
    """
    own, *containers = path
    message: Json = {}
    for below, container in reversed(list(zip(path, containers, strict=False))):
        if container.kind is not Kind.CHAIN or not below.index:
            message = merge(message, container.message)
    for container in reversed(containers):
        message = merge(message, container.kwargs)
    return merge(merge(message, own.kwargs), own.message)
