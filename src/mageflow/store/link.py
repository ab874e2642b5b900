"""Connections to Redis: commands of one tick travel as one pipeline, scripts are loaded when they are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

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

RedisSource = redis.asyncio.Redis | str


class _Pipeline(Protocol):
    def execute_command(self, *command: object) -> object: ...
    async def execute(self, raise_on_error: bool = True) -> list[Any]: ...  # noqa: FBT001, FBT002 - redis-py's own


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
    """Sends commands of one tick as one pipeline; replies come in order.

    Commands that share a pipeline do not depend on each other.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._waiting: list[tuple[tuple[object, ...], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def call(self, *command: object) -> Any:
        """Send one command and return its reply.

        Raises:
            RedisError: what the server answered, or that it could not be reached.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name="mageflow-link")
        return await future

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Run a script; load it first where the server does not know it."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        try:
            return await self.call(*command)
        except NoScriptError:
            await self.call("SCRIPT LOAD", script.source)
            return await self.call(*command)

    async def close(self) -> None:
        """Wait for what is under way and close the connections."""
        if self._flusher is not None:
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._client.aclose()

    async def _flush(self) -> None:
        await asyncio.sleep(0)
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipeline = cast("_Pipeline", self._client.pipeline(transaction=False))
            for command, _ in batch:
                pipeline.execute_command(*command)
            replies: list[Any]
            try:
                replies = await pipeline.execute(raise_on_error=False)
            except (RedisError, OSError) as error:
                replies = [error] * len(batch)
            except BaseException:
                for _, future in batch:
                    future.cancel()
                raise
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
