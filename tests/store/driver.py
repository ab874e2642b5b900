"""A small synchronous driver: the scripts of the store over a unix socket, and everything that a namespace holds."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

from mageflow.store import scripts
from tests.store.snapshot import Snapshot

DATABASE = 9
"""Database of its own, emptied before each example."""

_DUMP = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('GET', key) end
  out[#out + 1] = { key, kind, redis.call('PTTL', key), value }
end
return out
"""

_VANISH = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= tonumber(ARGV[1]) and not string.find(key, ':op:', 1, true) then redis.call('DEL', key) end
end
"""

_CLOCK = "call('TIME')"
NAMES = [
    "commit",
    "start",
    "finish",
    "attempt_failed",
    "stopped",
    "refused",
    "sweep",
    "continue",
    "offered",
    "probed",
    "beat",
    "turned_away",
    "why",
    "rearm",
]


_pack = cast("Callable[[Sequence[str | bytes | int]], bytes]", hiredis.pack_command)


class ScriptError(Exception):
    """Redis answered with an error."""


class Driver:
    """One connection, one namespace.

    `budget` and `page` replace the constants of the scripts, so that small flows are worked off in many parts. Time
    stands still and each example counts its operations: ids, and with them all choices, are the same at each repeat.
    """

    def __init__(self, url: str) -> None:
        self.prefix = "{mf:model}:"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(unquote(urlsplit(url).path))
        self._reader = hiredis.Reader()
        self._operations = itertools.count(1)
        self._shas: dict[tuple[int, int], dict[str, bytes]] = {}
        self._loaded: dict[str, bytes] = {}
        self.call("SELECT", DATABASE)
        self._dump: bytes = self.call("SCRIPT", "LOAD", _DUMP)
        self._vanish: bytes = self.call("SCRIPT", "LOAD", _VANISH)
        self.settings = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, *command: str | bytes | int) -> Any:
        """Send one command."""
        self._socket.sendall(_pack(command))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            raise ScriptError(f"{command[0]!r} {command[4:]!r}: {reply}")
        return reply

    def begin(self, settings: bytes, *, budget: int, page: int) -> None:
        """Empty the database and choose how much one script does."""
        self.settings = settings
        self._operations = itertools.count(1)
        self.call("FLUSHDB")
        if (budget, page) not in self._shas:
            self._shas[budget, page] = {name: self._load(name, budget, page) for name in NAMES}
        self._loaded = self._shas[budget, page]

    def _load(self, name: str, budget: int, page: int) -> bytes:
        source: str = getattr(scripts, name.upper()).source
        assert source.count(_CLOCK) == 1
        source = source.replace(_CLOCK, "{ 1700000000, 0 }")
        if "local budget" in source:
            source, budgets = re.subn(r"local budget = \d+", f"local budget = {budget}", source)
            source, pages = re.subn(r"local PAGE = \d+", f"local PAGE = {page}", source)
            assert (budgets, pages) == (1, 1)
        return self.call("SCRIPT", "LOAD", source)

    def run(self, name: str, *arguments: str | bytes | int, operation: str | None = None) -> Any:
        """Run a script under a new operation id."""
        operation = operation or f"o{next(self._operations)}"
        keys = (1, f"{self.prefix}out", operation, self.settings)
        return self.call("EVALSHA", self._loaded[name], *keys, *arguments)

    def key(self, name: str) -> str:
        """Return the key behind the prefix."""
        return self.prefix + name

    def steer(self, index: str, score: int, *names: str) -> None:
        """Move entries of a sorted set in time."""
        for name in names:
            self.call("ZADD", self.key(index), "XX", score, name)

    def vanish(self, within: int = 10**9) -> None:
        """Let time pass: every key whose lifetime is over within so many ms is gone."""
        self.call("EVALSHA", self._vanish, 0, within)

    def snapshot(self) -> Snapshot:
        """Return everything that there is."""
        reply: Sequence[Sequence[Any]] = self.call("EVALSHA", self._dump, 0)
        return Snapshot.of(reply, self.prefix)
