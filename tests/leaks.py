"""Finds keys of a namespace that would stay for ever.

A key may be there when it has a time to live, when it is one of the few bounded ones that a namespace needs, or when it
belongs to a flow that goes on: one that was never started (it is listed with its expiry), or one for which something is
due or runs. A template may be there as long as a record names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import redis

BOUNDED = re.compile(r"out|runs|workers|tasks|lo|drafts|beat|gap|stamp|ask|ix:[a-z]|queue:.*")
"""Keys that a namespace needs: there is one of each, or one for each task."""
_OF_A_SIGNATURE = re.compile(r"[sbmcwqolgkxniey]:(?P<id>[0-9A-Z]+(#[0-9]+)?)|r:(?P<map>[0-9A-Z]+):[0-9]+")
_OF_A_DRAFT = re.compile(r"dr:(?P<id>[0-9A-Z]+)")


class Namespace:
    """The keys of one namespace as they are now."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._prefix = f"{{mf:{namespace}}}:"

    def stale(self) -> Iterator[str]:
        """Yield a line for each key that would stay for ever."""
        for key in sorted(cast("Iterator[bytes]", self._client.scan_iter(match=f"{self._prefix}*", count=1000))):
            name = key.decode().removeprefix(self._prefix)
            if self._client.ttl(key) == -1 and (reason := self._reason(name)):
                yield f"{name}: {reason}"

    def _reason(self, name: str) -> str | None:
        """Return why a key without a time to live must not be there."""
        if BOUNDED.fullmatch(name):
            return None
        if match := _OF_A_DRAFT.fullmatch(name):
            return None if match["id"] in self._members("drafts") else "no draft of that id expires"
        match = _OF_A_SIGNATURE.fullmatch(name)
        if match is None:
            return "no key of that name is known"
        root = self._root(match["id"] or match["map"])
        if root not in self._records:
            return "it belongs to no record"
        return None if self._goes_on(root, set()) else f"its root {root} ({self._records[root]}) waits on nothing"

    def _goes_on(self, root: str, seen: set[str]) -> bool:
        if root in self._members("ix:p") or root in self._busy:
            return True
        seen.add(root)
        namers = {self._root(namer) for namer in self._namers.get(root, ())}
        return any(self._goes_on(namer, seen) for namer in namers - seen if namer in self._records)

    def _root(self, identifier: str) -> str:
        """Follow containers and the signatures that fired up to the top."""
        while record := self._records.get(identifier):
            above = record.get("c") or record.get("o")
            if above is None or above not in self._records:
                return identifier
            identifier = above
        return identifier

    def _members(self, name: str) -> set[str]:
        found = cast("list[bytes]", self._client.zrange(self._prefix + name, 0, -1))
        return {item.decode() for item in found}

    def _hashes(self, kind: str) -> Iterator[tuple[str, dict[str, str]]]:
        for key in cast("Iterator[bytes]", self._client.scan_iter(match=f"{self._prefix}{kind}:*", count=1000)):
            fields = cast("dict[bytes, bytes]", self._client.hgetall(key))
            decoded = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
            yield key.decode().removeprefix(f"{self._prefix}{kind}:"), decoded

    @cached_property
    def _records(self) -> dict[str, dict[str, str]]:
        return dict(self._hashes("s"))

    @cached_property
    def _busy(self) -> set[str]:
        """Return the roots below which a row is due or a run lives."""
        rows = {row.rpartition(":")[2] for row in self._members("out")}
        return {self._root(identifier) for identifier in rows | self._members("runs")}

    @cached_property
    def _namers(self) -> dict[str, set[str]]:
        """Return for each template the signatures that name it as a callback, or run it for each item."""
        found = {record["it"]: {namer} for namer, record in self._records.items() if "it" in record}
        for _, fields in self._hashes("b"):
            for name, templates in fields.items():
                namer, _, suffix = name.partition(":")
                for template in templates.split() if suffix in ("s", "f") else ():
                    found.setdefault(template, set()).add(namer)
        return found


def remove(client: redis.Redis, pattern: str) -> None:
    """Delete every key of a pattern."""
    keys = list(cast("Iterator[Any]", client.scan_iter(match=pattern, count=1000)))
    for start in range(0, len(keys), 1000):
        client.unlink(*keys[start : start + 1000])
