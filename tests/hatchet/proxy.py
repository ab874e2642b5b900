"""A way to an engine that can be broken: connections go through it, and all of them end when it stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from tests.relay import pass_on

T = TypeVar("T")


class Proxy:
    """Forwards connections on loopback to an engine, from a thread of its own.

    Args:
        environment: where the engine is, as Hatchet's client reads it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        host, _, port = environment["HATCHET_CLIENT_HOST_PORT"].rpartition(":")
        self._target = (host, int(port))
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.start()
        self.environment = {"HATCHET_CLIENT_HOST_PORT": f"127.0.0.1:{self._port}"}
        """What of that is another for who goes through it."""

    def start(self) -> None:
        """Take connections, on the same port as before."""
        self._do(self._listen())

    def stop(self) -> None:
        """End every connection, and take no more."""
        self._do(self._hang_up())

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(*self._target)
        self._open |= {writer, there}
        try:
            await asyncio.gather(_pump(reader, there), _pump(there_reader, writer))
        finally:
            self._open -= {writer, there}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await pass_on(reader, writer)
    writer.transport.abort()
