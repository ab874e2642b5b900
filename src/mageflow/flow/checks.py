"""What users give, checked where it is given: each says what was wanted, and what came instead."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from mageflow.errors import InvalidArgumentError

E = TypeVar("E", bound=Enum)
_LONGEST = timedelta(days=36_525)
TASKS = "a signature, a key, a name, a task object or a function"


def shown(value: Any) -> str:
    """Return what was given, in a few words."""
    if inspect.iscoroutine(value):
        return "a coroutine: await it first"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_count(value: object, where: str, *, least: int = 0) -> None:
    """Refuse all but whole numbers from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgumentError(where, f"a whole number, {least} or more", shown(value))


def check_seconds(value: object, where: str, *, positive: bool = False) -> None:
    """Refuse all but nothing and a number of seconds."""
    if value is None:
        return
    seconds = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (seconds > 0 if positive else seconds >= 0):  # neither holds of NaN
        raise InvalidArgumentError(where, f"seconds, {'more than 0' if positive else '0 or more'}", shown(value))


def check_start(delay: object, at: object) -> None:
    """Refuse all but nothing, a time span and a time with a zone; both of them too."""
    if delay is not None and at is not None:
        raise InvalidArgumentError("the start", "either `delay` or `at`", "both")
    if delay is not None and not (isinstance(delay, timedelta) and timedelta(0) <= delay <= _LONGEST):
        raise InvalidArgumentError("delay", "a timedelta from 0 to 100 years", shown(delay))
    if at is not None and (not isinstance(at, datetime) or at.utcoffset() is None):
        raise InvalidArgumentError("at", "a datetime with a time zone", shown(at))


def check_text(value: object, where: str) -> None:
    """Refuse all but nothing and texts."""
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError(where, "a text", shown(value))


def check_mapping(value: object, where: str, *, needed: bool = False) -> None:
    """Refuse all but mappings and models; also nothing, where it is needed."""
    if (needed or value is not None) and not isinstance(value, (Mapping, BaseModel)):
        raise InvalidArgumentError(where, "a mapping", shown(value))


def check_model(value: object, where: str) -> None:
    """Refuse all but nothing and pydantic models."""
    if value is not None and not (isinstance(value, type) and issubclass(value, BaseModel)):
        raise InvalidArgumentError(where, "a class of pydantic's BaseModel", shown(value))


def check_items(value: Any, where: str) -> None:
    """Refuse what is no iterable of messages: a text and a mapping are one thing each."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Iterable, AsyncIterable)):
        raise InvalidArgumentError(where, "an iterable of models or mappings", shown(cast("object", value)))


def list_of(value: Any, where: str, each: str = TASKS) -> list[object]:
    """Return what is given as a list; a lone name is one task, not its letters."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(where, f"a list, of which each is {each}", shown(cast("object", value)))
    return list(cast("Iterable[object]", value))


def check_task(value: object, where: str) -> None:
    """Refuse what can stand for no task."""
    if value is None or value == "" or isinstance(value, (bool, int, float, bytes, list, tuple, dict, set)):
        raise InvalidArgumentError(where, TASKS, shown(cast("object", value)))
    if inspect.iscoroutine(value):
        value.close()
        raise InvalidArgumentError(where, TASKS, shown(value))


def one_of(kind: type[E], value: Any, where: str) -> E:
    """Return a member of an enumeration, given as such or by its value."""
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidArgumentError(where, " or ".join(repr(item.value) for item in kind), shown(value)) from error
