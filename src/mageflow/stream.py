"""The results of a map as a stream: read while it runs, from any place, by any process that knows its key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

from typing_extensions import override

from mageflow.errors import IllegalMoveError, SignatureNotFoundError
from mageflow.flow.checks import check_count
from mageflow.flow.ids import item_id
from mageflow.flow.payload import load
from mageflow.flow.status import Status
from mageflow.session import Session
from mageflow.store.codec import Record

Out = TypeVar("Out", covariant=True)  # noqa: PLC0105 - the word of the documentation

PAGE = 50
"""Results that are read at a time."""
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.5


class ResultStream(AsyncIterator[Out], Generic[Out]):
    """Results of a map, in the order of its items or of their ends; items that failed or were canceled are left out.

    After each result `index` is the index of its item, and `position` is where a later stream goes on behind it:
    `results(start=position)` with the same `ordered`. Holds `PAGE` results at the most. Ends with the map; while Redis
    does not answer it waits.

    Raises:
        FlowFailedError, FlowCanceledError: at the end, where the map did not succeed.
        IllegalMoveError: the signature is no map.
        SignatureNotFoundError: it is gone: it was kept `done_ttl` after its end. Where that happens to a reader that is
            slower than that, what is left is not given in part.
    """

    def __init__(self, session: Session, identifier: str, start: int, *, ordered: bool) -> None:
        check_count(start, "the start of a stream of results")
        self._session = session
        self._id = identifier
        self._next = start
        self._ordered = ordered
        self._was_there = False
        self._found: deque[tuple[int, int, bytes]] = deque()
        self.position = start
        self.index = -1

    @override
    async def __anext__(self) -> Out:
        pause = _FIRST_LOOK
        while not self._found:
            before = self._next
            if await self._session.through_outages(self._read_on):
                break
            if self._next == before:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_LOOK)
        self.index, self.position, value = self._found.popleft()
        return load(value, self._session.key(item_id(self._id, self.index)))

    async def _read_on(self) -> bool:
        """Read what has ended by now; return whether there is any.

        Raises:
            StopAsyncIteration: the map is over, and nothing is left to be read.
        """
        record = await self._map()
        more = await (self._in_order(record) if self._ordered else self._as_they_end())
        if record.status.ended and not more and not self._found:
            self.position = self._next
            await self._session.check_outcome(record)
            raise StopAsyncIteration
        return bool(self._found)

    async def _map(self) -> Record:
        """Return the record of the map; what had ended by then is found by what is read after it."""
        [record] = await (await self._session.store()).read([self._id])
        if record is None:
            raise self._too_late() if self._was_there else SignatureNotFoundError(self._session.key(self._id))
        self._was_there = True
        if "it" not in record.fields:
            raise IllegalMoveError(self._session.key(self._id), "stream the results of", "it is no map")
        return record

    def _too_late(self) -> SignatureNotFoundError:
        reason = (
            f"it ended, and was gone before this stream, at position {self._next}, had read all of it: results of a "
            "map are kept `done_ttl` after its end, slow readers need a longer one"
        )
        return SignatureNotFoundError(self._session.key(self._id), reason)

    async def _in_order(self, record: Record) -> bool:
        """Read on to the first item that has not ended; return whether there are more."""
        store, results = await self._session.store(), await self._session.results()
        limit = record.number("nm")
        if record.status.ended:
            # What had not had its turn by then was canceled with the map.
            limit -= int(await store.command("LLEN", store.keys.waiting_items(self._id)))
        indices = range(self._next, min(self._next + PAGE, limit))
        for index, (status, value) in zip(indices, await results.of_items(self._id, indices), strict=True):
            if status is None:
                raise self._too_late()
            if not (status.ended or record.status.ended):
                return True
            self._next = index + 1
            if status is Status.DONE:
                self._found.append((index, index + 1, value))
        return self._next < limit

    async def _as_they_end(self) -> bool:
        store, results = await self._session.store(), await self._session.results()
        ended: Sequence[bytes] = await store.command(
            "LRANGE", store.keys.done_items(self._id), self._next, self._next + PAGE - 1
        )
        indices = [int(index) for index in ended]
        for index, (status, value) in zip(indices, await results.of_items(self._id, indices), strict=True):
            if status is not Status.DONE:
                raise self._too_late()
            self._next += 1
            self._found.append((index, self._next, value))
        return bool(indices)
