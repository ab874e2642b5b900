"""A relay before Redis that a test can cut: to a client that is an outage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import unquote, urlsplit


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what one side says to the other, until either hangs up."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


class Relay:
    """Passes bytes on between clients on a port and a server on a unix socket; `cut`: hangs up on whoever calls."""

    def __init__(self, target: str) -> None:
        self._target = unquote(urlsplit(target).path)
        self._passing: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.url = ""
        self.turned_away = 0
        """How many connections were refused since the cut."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the server say to each other."""
        if self._is_cut:
            self.turned_away += 1
            writer.close()
            return
        from_server, to_server = await asyncio.open_unix_connection(self._target)
        await asyncio.gather(self._pass(reader, to_server), self._pass(from_server, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(writer)
        await pass_on(reader, writer)
        self._passing.discard(writer)
        writer.close()

    def cut(self) -> None:
        """Hang up on everybody, and on whoever calls from now on."""
        self._is_cut, self.turned_away = True, 0
        for writer in [*self._passing]:
            writer.close()

    def mend(self) -> None:
        """Pass on again."""
        self._is_cut = False


@contextlib.asynccontextmanager
async def relay_to(url: str) -> AsyncGenerator[Relay]:
    """Run a relay to the server of a URL for the block."""
    relay = Relay(url)
    server = await asyncio.start_server(relay.serve, "127.0.0.1")
    relay.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        relay.cut()
        server.close()
        await server.wait_closed()
