"""Adds items to a map: chunk by chunk, each written before more are taken, whatever their number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

from mageflow.flow.signature import Items
from mageflow.session import Session

CHUNK = 500
"""Items that are written at a time."""
_CHUNK_BYTES = 256 * 1024
_LINGER = 0.05
"""Seconds after which items are written that came slowly."""
_FIRST_LOOK = 0.02
_LONGEST_LOOK = 1.0


class Feed:
    """One producer of a map.

    Args:
        encode: returns the message of an item as JSON, given the item and its place in the iterable.
        max_waiting: while a started map has more waiting items nothing is taken from the iterable; `None`: unbounded.
        first: place of the first item.
    """

    def __init__(
        self,
        session: Session,
        identifier: str,
        encode: Callable[[object, int], bytes],
        *,
        max_waiting: int | None,
        first: int = 0,
    ) -> None:
        self._session = session
        self._id = identifier
        self._encode = encode
        self._max_waiting = max_waiting
        self._place = first
        self._buffer: list[bytes] = []
        self._size = 0
        self._writing = asyncio.Lock()
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self, items: Iterable[object] | AsyncIterable[object]) -> None:
        """Add all that the iterable yields; an error of it, or of one item, leaves those before it added.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: an item is wrong; names its place.
            SwarmIsClosedError, SwarmIsCanceledError, TooManyTasksError: the map takes no more.
        """
        slowly = asyncio.create_task(self._write_now_and_then(), name="mageflow-feed")
        try:
            async with contextlib.aclosing(_each(items)) as source:
                async for item in source:
                    await self._take(item)
            await self._write()
        except Exception as error:
            if self._failure is None:
                await self._write()
                key = self._session.key(self._id)
                error.add_note(f"{self._place} items before it were taken; map {key} stays open")
            raise
        finally:
            self._over.set()
            await asyncio.gather(slowly, return_exceptions=True)

    async def _take(self, item: object) -> None:
        message = self._encode(item, self._place)
        self._place += 1
        self._buffer.append(message)
        self._size += len(message)
        if len(self._buffer) >= CHUNK or self._size >= _CHUNK_BYTES:
            await self._write()
            await self._wait_for_room()

    async def _write(self) -> None:
        async with self._writing:
            if self._failure is not None:
                raise self._failure
            messages, self._buffer, self._size = self._buffer, [], 0
            if not messages:
                return
            producer, before = self._session.replay.producer(self._id)
            try:
                await self._session.commit([Items(id=self._id, messages=messages, producer=producer, before=before)])
            except Exception as error:
                self._failure = error
                raise
            self._session.replay.added(self._id, len(messages))

    async def _write_now_and_then(self) -> None:
        """Write what came slowly; an error is raised by the next write."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _LINGER)
            await self._write()

    async def _wait_for_room(self) -> None:
        """Wait while a started map has more than enough to do."""
        store, pause = await self._session.store(), _FIRST_LOOK
        waiting = store.keys.waiting_items(self._id)
        while self._max_waiting is not None and int(await store.command("LLEN", waiting)) > self._max_waiting:
            [record] = await store.read([self._id])
            if record is None or record.status.ended or "rd" not in record.fields:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_LOOK)


async def _each(items: Iterable[object] | AsyncIterable[object]) -> AsyncGenerator[object]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
