"""Results and errors of ended signatures, resolved from where they stand."""

from __future__ import annotations

from dataclasses import dataclass

from mageflow.errors import BrokenRecordError, SignatureNotFoundError
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Json, load
from mageflow.flow.status import Kind, Status
from mageflow.store.codec import Record, text
from mageflow.store.store import CHUNK, Store


@dataclass(frozen=True, slots=True)
class Results:
    """Reads what flows returned. A chain's result is its last member's, a swarm's the list of its members'."""

    store: Store

    async def result(self, identifier: str) -> bytes:
        """Return the result of a done signature as JSON. One round trip, and two for each 100 members of a swarm.

        Raises:
            SignatureNotFoundError: the record is gone.
        """
        [record] = await self.store.read([identifier])
        if record is None:
            raise SignatureNotFoundError(self._key(identifier))
        return await self._of_record(record)

    async def error(self, identifier: str) -> Json:
        """Return the error of a failed signature; a container has its failed member's, under its own key and name.

        One round trip, and one for each level of containers.

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
            canceled = {"type": "Canceled", "message": reason, "traceback": ""}
            values: Json = canceled
        else:
            values = {"traceback": "", **load(source.error, self._key(identifier))}
        return {**values, "task_name": record.body.name or record.kind.value, "key": self._key(identifier)}

    async def failed_key(self, identifier: str) -> str:
        """Return the key of the signature whose error stands for this one. One round trip for each level."""
        while True:
            [record] = await self.store.read([identifier])
            if record is None or record.error is not None or record.source == record.id:
                return self._key(identifier)
            identifier = record.source

    async def _of_record(self, record: Record) -> bytes:
        if record.kind is Kind.SWARM:
            return await self._of_swarm(record.id)
        if record.source != record.id:
            return await self.result(record.source)
        if record.result is None:
            raise BrokenRecordError(self._key(record.id), "it is done and has no result")
        return record.result

    async def _of_swarm(self, identifier: str) -> bytes:
        values: list[bytes] = []
        start = 0
        while page := await self.store.command("LRANGE", self.store.keys.members(identifier), start, start + CHUNK - 1):
            start += len(page)
            records = await self.store.read([text(member) for member in page])
            done = [record for record in records if record is not None and record.status is Status.DONE]
            values.extend([await self._of_record(record) for record in done])
        return b"[" + b",".join(values) + b"]"

    def _key(self, identifier: str) -> str:
        return key_of(self.store.config.namespace, identifier)
