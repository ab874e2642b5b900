"""What happened to a run."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import TracebackType

from mageflow.flow.payload import Json, dump

MAX_TRACEBACK = 16_000
MAX_MESSAGE = 4_000
MAX_ERROR = 1_000_000
_LEADING = ("mageflow.run.", "mageflow.backends.", "taskiq.", "concurrent.futures.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The run returned; the result as JSON, and what it chooses among the cases of a switch (see `choice_of`)."""

    id: str
    run: int
    result: bytes
    choice: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """The run returned a signature: its outcome will be the task's, after a check of the result if `checked`."""

    id: str
    run: int
    by: str
    checked: bool


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


def _formatted(error: BaseException) -> str:
    """Return a traceback without marks below the lines.

    To place them Python parses the lines anew, and CPython up to 3.12 fails with SystemError when two threads parse at
    the same time: a task's own thread may.
    """
    whole = traceback.TracebackException(type(error), error, _of_user_code(error.__traceback__))
    parts = [whole]
    while parts:
        part = parts.pop()
        part.stack = traceback.StackSummary.from_list([(f.filename, f.lineno or 0, f.name, f.line) for f in part.stack])
        parts.extend(below for below in (part.__cause__, part.__context__) if below is not None)
        parts.extend(part.exceptions or ())
    return "".join(whole.format())


def _message_of(error: BaseException) -> str:
    try:
        return str(error) or repr(error)  # of an error without a text its class says more than nothing
    except Exception as problem:  # noqa: BLE001 - a user's `__str__` may raise anything; the outcome must be recorded
        return f"(its text raised {type(problem).__name__})"


def _encodable(text: str) -> str:
    """Return a text that JSON can hold: lone surrogates, as in names of files, are written out."""
    return text.encode(errors="backslashreplace").decode()


def error_json(error: BaseException, task_name: str, key: str) -> bytes:
    """Return an error as JSON: type, message, traceback (the last 16,000 characters), task name, key.

    Whatever the error is, this succeeds: limits of payloads do not apply to it.
    """
    text = _formatted(error)
    values: Json = {
        "type": type(error).__name__,
        "message": _encodable(_message_of(error)[:MAX_MESSAGE]),
        "traceback": _encodable(text[-MAX_TRACEBACK:]),
        "task_name": task_name,
        "key": key,
    }
    return dump(values, f"the error of {key}", MAX_ERROR)
