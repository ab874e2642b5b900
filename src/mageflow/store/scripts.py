"""The Lua scripts as they are sent: prelude, shared transitions, and the script itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from mageflow.config import MageflowConfig, in_seconds
from mageflow.flow.signature import (
    Add,
    Asked,
    Change,
    Claim,
    Close,
    Items,
    Members,
    Message,
    NewSignature,
    Patch,
    Run,
    Steer,
)

LEASE = 6.0
"""Seconds without a sign of life after which a run is given to another worker."""

SCHEMA = 1
"""Version of the records that the scripts understand, as in prelude.lua."""

_LUA = files("mageflow.store") / "lua"
SEPARATOR = "\x1f"
Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its source and the digest by which Redis knows it."""

    name: str
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


def _load(*names: str) -> Script:
    """Return a script of parts, each a function inside the one before it.

    Lua makes every function anew in each call of a script. What one takes from further out costs nothing then, what it
    takes from its own neighbours is searched for among all that they share.
    """
    parts = [(_LUA / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", *names)]
    return Script(names[-1], "\nreturn (function()\n".join(parts) + "\nend)()" * len(names))


COMMIT = _load("flow", "commit")
START = _load("start")
TURNED_AWAY = _load("flow", "turned_away")
FINISH = _load("flow", "finish")
ATTEMPT_FAILED = _load("flow", "attempt_failed")
STOPPED = _load("flow", "stopped")
WITHDRAWN = _load("flow", "withdrawn")
REFUSED = _load("flow", "refused")
SWEEP = _load("flow", "sweep")
PROBED = _load("flow", "probed")
CONTINUE = _load("flow", "continue")
OFFERED = _load("offered")
IN_HAND = _load("in_hand")
BEAT = _load("beat")
READ = _load("read")
WHY = _load("waiting", "why")
REARM = _load("flow", "waiting", "rearm")


def settings_argument(config: MageflowConfig) -> bytes:
    """Return ARGV[2] of every script, see prelude.lua."""
    kinds = [config.ttl.of_kind(kind) for kind in ("task", "chain", "swarm", "switch")]
    numbers = [
        *(in_seconds(ttl.active_ttl) * 1000 for ttl in kinds),
        *(in_seconds(ttl.done_ttl) * 1000 for ttl in kinds),
        in_seconds(config.ttl.suspended_ttl) * 1000,
        LEASE * 1000,
        config.crash_limit,
        config.inline_limit,
        config.max_replacements,
    ]
    return struct.pack(">13d", *map(int, numbers))


def _fields(signature: NewSignature, height: int) -> str:
    pairs: list[tuple[str, int | str]] = [("h", height)]
    if signature.task_name is not None:
        pairs.append(("tn", short_name(signature.task_name)))
    pairs.extend(signature.settings.items())
    return SEPARATOR.join(f"{name}{SEPARATOR}{value}" for name, value in pairs)


def short_name(task_name: str) -> str:
    """Return a name of at most 60 bytes that stands for the task in records: longer fields would unpack the hash."""
    if len(task_name.encode()) <= 60 and SEPARATOR not in task_name:
        return task_name
    return hashlib.sha1(task_name.encode(), usedforsecurity=False).hexdigest()


def _list(ids: Sequence[str]) -> Iterable[Argument]:
    return (len(ids), *ids)


def change_arguments(change: Change, height: int = 1) -> Iterable[Argument]:  # noqa: C901, PLR0911 - one for each verb
    """Return a change as the verbs of commit.lua; `height` is the least height of a new container."""
    match change:
        case NewSignature():
            return (
                *("node", change.id, change.kind.letter, change.container or ""),
                *("" if change.index is None else change.index, _fields(change, height)),
                *(change.body, change.message or "", " ".join(change.success), " ".join(change.failure), change.cases),
            )
        case Claim():
            index = "" if change.index is None else change.index
            return ("claim", change.id, change.container, index, change.message or "")
        case Members():
            return ("members", change.container, int(change.waiting), *_list(change.ids))
        case Add():
            return ("add", change.swarm, int(change.close_on_max), int(change.run), *_list(change.ids))
        case Items():
            return ("items", change.id, change.producer, change.before, len(change.messages), *change.messages)
        case Message():
            return ("message", change.id, change.message)
        case Run():
            return ("run", change.id, change.delay, "" if change.at is None else change.at)
        case Close():
            return ("close", change.id)
        case Patch():
            return ("patch", change.id, change.mark, change.line)
        case Steer():
            return ("steer", change.id, change.verb)
        case Asked():
            return ("asked", change.id, change.run, *_list(change.ids))
