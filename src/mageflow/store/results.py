"""Results and errors of ended signatures, resolved from where they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mageflow.errors import BrokenRecordError, SignatureNotFoundError
from mageflow.flow.ids import item_id, key_of
from mageflow.flow.payload import Json, load
from mageflow.flow.status import Kind, Status
from mageflow.store.codec import Record, text
from mageflow.store.store import CHUNK, Store


@dataclass(frozen=True, slots=True)
class Results:
    """Reads what flows returned. A chain's result is its last member's, a swarm's the list of its members'."""

    store: Store

    async def result(self, identifier: str, limit: int | None = None) -> bytes:
        """Return the result of a done signature as JSON. One round trip, and two for each 100 members of a swarm.

        Args:
            identifier: of the signature.
            limit: bytes; of a list that is longer at least so much of it is returned, no JSON.

        Raises:
            SignatureNotFoundError: the record is gone.
        """
        [record] = await self.store.read([identifier])
        if record is None:
            raise SignatureNotFoundError(self._key(identifier))
        return await self._of_record(record, limit)

    async def error(self, identifier: str) -> Json:
        """Return the error of a failed signature; a container has its failed member's, under its own key and name.

        `failed_key` and `failed_task_name` are those of the task, or swarm, whose error it is. One round trip, and one
        for each level of containers.

        Raises:
            SignatureNotFoundError: the record is gone.
        """
        [record] = await self.store.read([identifier])
        if record is None:
            raise SignatureNotFoundError(self._key(identifier))
        source: Record | None = record
        while source is not None and source.error is None and source.source != source.id:
            [source] = await self.store.read([source.source])
        if source is None or source.error is None:
            reason = record.fields.get("re", "canceled")
            values: Json = {"type": "Canceled", "message": reason, "traceback": ""}
        else:
            values = {"traceback": "", **load(source.error, self._key(identifier))}
        failed = source or record
        return {
            **values,
            "task_name": _name(record),
            "key": self._key(identifier),
            "failed_task_name": _name(failed),
            "failed_key": self._key(failed.id),
        }

    async def _of_record(self, record: Record, limit: int | None = None) -> bytes:
        if record.kind is Kind.SWARM:
            return await self._of_swarm(record, limit)
        if record.source != record.id:
            return await self.result(record.source, limit)
        if record.result is None:
            raise BrokenRecordError(self._key(record.id), "it is done and has no result")
        return record.result

    async def _of_swarm(self, swarm: Record, limit: int | None) -> bytes:
        values: list[bytes] = []
        size = start = 0
        while limit is None or size <= limit:
            ended = await self._outcomes(swarm, start)
            if not ended:
                break
            start += len(ended)
            done = [value for status, value in ended if status is Status.DONE]
            values.extend(done)
            size += sum(map(len, done))
        if len(values) < swarm.number("nd") and (limit is None or size <= limit):
            # Its records go one after the other: some are gone already.
            raise SignatureNotFoundError(self._key(swarm.id), "its lifetime ended while its results were read")
        return b"[" + b",".join(values) + b"]"

    async def _outcomes(self, swarm: Record, start: int) -> list[tuple[Status | None, bytes]]:
        """Return a page of the members of a swarm: status, and result of what is done."""
        if "it" in swarm.fields:
            return await self.of_items(swarm.id, range(start, min(start + CHUNK, swarm.number("nm"))))
        page = await self.store.command("LRANGE", self.store.keys.members(swarm.id), start, start + CHUNK - 1)
        return await self._of_ids([text(member) for member in page])

    async def of_items(self, identifier: str, indices: Iterable[int]) -> list[tuple[Status | None, bytes]]:
        """Return the status of items of a map, and the results of those that are done; of what is gone `None`.

        One round trip, and one or more for each 100 items that have not ended, failed, or left something behind.
        """
        wanted = list(indices)
        found = await self._kept(identifier, wanted)
        missing = [index for index in wanted if index not in found]
        others = await self._of_ids([item_id(identifier, index) for index in missing])
        outcomes: dict[int, tuple[Status | None, bytes]] = {i: (Status.DONE, value) for i, value in found.items()}
        outcomes.update(zip(missing, others, strict=True))
        return [outcomes[index] for index in wanted]

    async def _kept(self, identifier: str, indices: Sequence[int]) -> dict[int, bytes]:
        """Return the results of the items that have no record any more."""
        buckets = [(bucket, list(group)) for bucket, group in groupby(indices, lambda index: index // 100)]
        keys = self.store.keys
        replies: list[list[Any]] = await asyncio.gather(
            *(
                self.store.command("HMGET", keys.item_results(identifier, bucket), *(index % 100 for index in group))
                for bucket, group in buckets
            )
        )
        pairs = [
            pair for (_, group), reply in zip(buckets, replies, strict=True) for pair in zip(group, reply, strict=True)
        ]
        return {index: value for index, value in pairs if value is not None}

    async def _of_ids(self, ids: Sequence[str]) -> list[tuple[Status | None, bytes]]:
        outcomes: list[tuple[Status | None, bytes]] = []
        for record in await self.store.read(ids):
            if record is None or record.status is not Status.DONE:
                outcomes.append((None if record is None else record.status, b""))
            else:
                outcomes.append((Status.DONE, await self._of_record(record)))
        return outcomes

    def _key(self, identifier: str) -> str:
        return key_of(self.store.config.namespace, identifier)


def _name(record: Record) -> str:
    return record.body.name or record.kind.value
