"""Looks through a namespace for what must not be there, and mends it when asked."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mageflow.dispatch.dispatcher import Dispatcher
from mageflow.dispatch.sweeper import Sweeper
from mageflow.flow.ids import key_of
from mageflow.store.codec import text
from mageflow.store.scripts import LEASE
from mageflow.store.store import Store

_LATE = 10.0
"""Seconds after which a row that is due, or a run without a sign of life, should long have been looked after."""
_OF_A_SIGNATURE = re.compile(r"[bmcwqolghkxnieyr]:(?P<id>[0-9A-Z]+(#[0-9]+)?)(:[0-9]+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be: `stalled`, `overdue`, `lapsed` or `orphan`; and the signature, row or key."""

    kind: str
    on: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found, and how much of it was mended."""

    findings: tuple[Finding, ...]
    repaired: int = 0


class Repair:
    """Reads every record of a namespace once, two round trips each. Of no effect on a healthy system."""

    def __init__(self, store: Store, dispatcher: Dispatcher, sweeper: Sweeper) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._sweeper = sweeper

    async def run(self, *, apply: bool) -> Report:
        """Look through the namespace; with `apply`, mend what is found."""
        findings = [finding async for finding in self._find()]
        if not apply or not findings:
            return Report(findings=tuple(findings))
        while await self._sweeper.sweep():
            pass
        repaired = sum([await self._mend(finding) for finding in findings])
        await self._dispatcher.idle()
        return Report(findings=tuple(findings), repaired=repaired)

    async def _find(self) -> AsyncIterator[Finding]:
        prefix = self._store.keys.everything.removesuffix("*")
        async for finding in self._find_late():
            yield finding
        drafts = await self._store.command("EXISTS", f"{prefix}drafts")
        async for name in self._names(prefix):
            if name.startswith("s:"):
                finding = await self._check_record(name[2:])
            else:
                finding = None if drafts else await self._check_owner(prefix, name)
            if finding is not None:
                yield finding

    async def _names(self, prefix: str) -> AsyncIterator[str]:
        cursor: bytes | int = 0
        while True:
            cursor, page = await self._store.command("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 500)
            for key in page:
                yield text(key).removeprefix(prefix)
            if int(cursor) == 0:
                return

    async def _find_late(self) -> AsyncIterator[Finding]:
        seconds, _ = await self._store.command("TIME")
        until = int((int(seconds) - _LATE) * 1000)
        for row in await self._store.command("ZRANGEBYSCORE", self._store.keys.outbox, "-inf", until):
            yield Finding(kind="overdue", on=text(row), detail=f"due for more than {_LATE:g} s")
        until -= int(LEASE * 1000)
        for run in await self._store.command("ZRANGEBYSCORE", self._store.keys.runs, "-inf", until):
            detail = f"no sign of life for more than {LEASE + _LATE:g} s"
            yield Finding(kind="lapsed", on=self._key(text(run)), detail=detail)

    async def _check_record(self, identifier: str) -> Finding | None:
        [record] = await self._store.read([identifier])
        if record is None or record.status.ended:
            return None
        wait = await self._store.why(identifier)
        if wait is None or wait[0] != "nothing":
            return None
        return Finding(kind="stalled", on=self._key(identifier), detail=f"{record.kind.value} waits on nothing")

    async def _check_owner(self, prefix: str, name: str) -> Finding | None:
        match = _OF_A_SIGNATURE.match(name)
        if match is None or await self._store.command("EXISTS", self._store.keys.record(match["id"])):
            return None
        if await self._store.command("PTTL", prefix + name) != -1:
            return None
        return Finding(kind="orphan", on=name, detail="its record is gone")

    async def _mend(self, finding: Finding) -> bool:
        if finding.kind == "orphan":
            return bool(await self._store.command("UNLINK", self._store.keys.everything.removesuffix("*") + finding.on))
        if finding.kind == "stalled":
            answer = await self._store.rearm([finding.on.rpartition(":")[2]])
            await self._dispatcher.dispatch(answer.ready)
            return bool(answer.extra)
        return True

    def _key(self, identifier: str) -> str:
        return key_of(self._store.config.namespace, identifier)
