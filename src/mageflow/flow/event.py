"""What happened to a run."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import TracebackType

from mageflow.flow.payload import Json

MAX_TRACEBACK = 16_000
MAX_MESSAGE = 4_000
_LEADING = ("mageflow.run.", "mageflow.backends.", "taskiq.", "concurrent.futures.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The run returned; the result as JSON."""

    id: str
    run: int
    result: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The run failed for good; the error as JSON."""

    id: str
    run: int
    error: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The run failed and the task manager will try again in `delay` seconds."""

    id: str
    run: int
    attempts_used: int
    delay: float
    error: bytes


def _of_user_code(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames that lead to the user's code, if any of it is there."""
    rest = trace
    while rest is not None and rest.tb_frame.f_globals.get("__name__", "").startswith(_LEADING):
        rest = rest.tb_next
    return rest or trace


def error_values(error: BaseException, task_name: str, key: str) -> Json:
    """Return an error as data: type, message, traceback (the last 16,000 characters), task name, key."""
    text = "".join(traceback.format_exception(type(error), error, _of_user_code(error.__traceback__)))
    return {
        "type": type(error).__name__,
        "message": str(error)[:MAX_MESSAGE],
        "traceback": text[-MAX_TRACEBACK:],
        "task_name": task_name,
        "key": key,
    }
