"""Connections to Redis: commands of one tick travel together, scripts are loaded when they are missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from mageflow.store.scripts import Script

_KEPT = (
    *("host", "port", "path", "db", "username", "password", "credential_provider", "client_name"),
    *("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path"),
    *("ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
)
_SYNC_CLASSES: dict[str, type[Any]] = {
    "Connection": redis.Connection,
    "SSLConnection": redis.SSLConnection,
    "UnixDomainSocketConnection": redis.UnixDomainSocketConnection,
}

# redis-py packs commands in Python, at 20 us each.
_pack: Callable[[tuple[Any, ...]], bytes] = getattr(hiredis, "pack_command")  # noqa: B009 - its stub is incomplete

RedisSource = redis.asyncio.Redis | str
Command = tuple[Any, ...] | Callable[[], tuple[Any, ...]]
"""The words of a command, or what returns them when it leaves."""
_CLOSED = "the client was closed"


def _source_pool(source: RedisSource) -> redis.asyncio.ConnectionPool:
    if isinstance(source, str):
        return redis.asyncio.ConnectionPool.from_url(source)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
    return source.connection_pool


def connection_of(source: RedisSource) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of the connections to a server and the settings that say where it is and who we are."""
    pool = _source_pool(source)
    settings = pool.connection_kwargs
    return pool.connection_class, {name: settings[name] for name in _KEPT if settings.get(name) is not None}


def open_pool(source: RedisSource) -> redis.asyncio.Redis:
    """Return a client of our own for the server of `source`: its address and credentials, no other settings."""
    connection_class, settings = connection_of(source)
    own = redis.asyncio.ConnectionPool(connection_class=connection_class, socket_timeout=None, **settings)
    return redis.asyncio.Redis.from_pool(own)


def open_blocking(source: RedisSource, timeout: float) -> redis.Redis:
    """Return a synchronous client for threads; each command is given up after `timeout` seconds."""
    connection_class, settings = connection_of(source)
    blocking = _SYNC_CLASSES[connection_class.__name__]
    pool = redis.ConnectionPool(
        connection_class=blocking, socket_timeout=timeout, socket_connect_timeout=timeout, **settings
    )
    return redis.Redis(connection_pool=pool)


def address_of(source: RedisSource) -> str:
    """Return where the server is, without credentials."""
    _, settings = connection_of(source)
    return str(settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}")


class Link:
    """One connection on which commands follow each other without waiting; those of one tick are one write.

    Commands under way do not depend on each other. When the connection breaks, all of them fail with what broke it; the
    next command connects again. Values come as bytes.
    """

    def __init__(self, source: RedisSource) -> None:
        connection_class, settings = connection_of(source)
        self._connection = connection_class(socket_timeout=None, protocol=2, retry=Retry(NoBackoff(), 0), **settings)
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._under_way: deque[asyncio.Future[Any]] = deque()
        self._wake = asyncio.Event()
        self.closed = False
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def call(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            RedisError: what the server answered, or that it could not be reached.
        """
        future = self._put(command)
        self._wake.set()
        return await future

    async def ride(self, command: Callable[[], tuple[Any, ...]], within: float) -> Any:
        """Send a command that can wait: with the next one, or alone after so many seconds; returns its reply.

        Args:
            command: returns the words of the command, when it leaves.
            within: seconds.

        Raises:
            RedisError: as `call`.
        """
        future = self._put(command)
        timer = asyncio.get_running_loop().call_later(within, self._wake.set)
        try:
            return await future
        finally:
            timer.cancel()

    def _put(self, command: Command) -> asyncio.Future[Any]:
        if self.closed:
            raise redis.ConnectionError(_CLOSED)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="mageflow-send")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        return future

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Run a script; load it first where the server does not know it."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        try:
            return await self.call(*command)
        except NoScriptError:
            await self.call("SCRIPT", "LOAD", script.source)
            return await self.call(*command)

    async def close(self) -> None:
        """Close the connection for good; what is under way fails, and so does every later call."""
        self.closed = True
        tasks = [task for task in (self._sender, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._under_way.extend(future for _, future in self._waiting)
        self._waiting.clear()
        self._fail(redis.ConnectionError(_CLOSED))
        await self._connection.disconnect()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            try:
                if not self._connection.is_connected:
                    await self._connect()
                packed = [_pack(command() if callable(command) else command) for command, _ in batch]
                self._under_way.extend(future for _, future in batch)
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError, asyncio.CancelledError) as error:
                self._under_way.extend(future for _, future in batch if future not in self._under_way)
                if isinstance(error, asyncio.CancelledError):
                    raise  # `close` tells the callers
                await self._lost(error)

    async def _connect(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._connection.connect()
        self._reader = asyncio.create_task(self._read(), name="mageflow-read")

    async def _read(self) -> None:
        while True:
            reply: Any
            try:
                reply = await self._connection.read_response(disconnect_on_error=False)
            except (ResponseError, BusyLoadingError) as error:
                reply = error
            except (RedisError, OSError) as error:
                return await self._lost(error)
            future = self._under_way.popleft()
            if not future.done():
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

    async def _lost(self, error: Exception) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        failed = [*self._under_way]
        self._under_way.clear()
        for future in failed:
            if not future.done():
                future.set_exception(error)
