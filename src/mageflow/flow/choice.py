"""What a result chooses among the cases of a switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel, Discriminator
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from mageflow.errors import CaseError

Tell = str | Callable[[Any], object]
"""The discriminator of a union of models: the name of a field, or a function of the value."""


def discriminator_of(annotation: object) -> Tell | None:
    """Return the discriminator that an annotation names, `Annotated[A | B, Field(discriminator=...)]`, if it does."""
    for mark in getattr(annotation, "__metadata__", ()):
        tell = mark.discriminator if isinstance(mark, (FieldInfo, Discriminator)) else None
        if isinstance(tell, Discriminator):
            tell = tell.discriminator
        if tell is not None:
            return tell
    return None


def choice_of(value: object, tell: Tell | None = None) -> bytes:
    """Return a bool, int, str or an enum of them as JSON; of a model, its discriminator. Nothing for all else."""
    if tell is not None and isinstance(value, BaseModel):
        value = getattr(value, tell, None) if isinstance(tell, str) else tell(value)
    if isinstance(value, Enum):
        value = value.value
    return to_json(value) if isinstance(value, (bool, int, str)) else b""


def check_cases(cases: Sequence[object], values: Sequence[bytes]) -> None:
    """Refuse cases that no result can equal, or two results; `values`: the choice of each, then of the default.

    Raises:
        CaseError: names the case.
    """
    if not values:
        reason = "there is none"
        raise CaseError(reason)
    for place, case in enumerate(cases):
        if not values[place]:
            reason = f"{case!r} is no bool, int, str or enum of them"
            raise CaseError(reason)
        if values[place] in values[:place]:
            reason = f"{case!r} is there twice"
            raise CaseError(reason)
