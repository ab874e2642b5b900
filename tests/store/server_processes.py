"""Users, keepers and servers as processes: started, asked, killed and looked for."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mageflow.backends import keeper
from mageflow.backends.server import EmbeddedServer

USER = """
import asyncio, sys
from pathlib import Path
from mageflow.backends.server import EmbeddedServer

async def main():
    for word in sys.stdin:
        if word == "acquire\\n":
            server = await EmbeddedServer.acquire(Path(sys.argv[1]))
            print(server.url, flush=True)
        else:
            await server.release()
            print("released", flush=True)

asyncio.run(main())
"""
"""A process that does what it is told, a line at a time."""


class User:
    """A process that acquires and releases on demand."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def tell(self, word: str) -> str:
        """Have the process do something and return its answer; empty if it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(f"{word}\n".encode())
            await self.process.stdin.drain()
        return (await self.process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        """Kill the process with SIGKILL and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def user_of(directory: Path) -> AsyncGenerator[User]:
    """Run a process for the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", USER, str(directory)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    user = User(process)
    try:
        yield user
    finally:
        await user.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def redis_of(server: EmbeddedServer) -> AsyncGenerator[Redis]:
    """Open a client for the block, once the server answers."""
    redis = Redis.from_url(server.url, decode_responses=True)
    deadline = time.monotonic() + 10
    try:
        while not await answers(redis):
            assert time.monotonic() < deadline, "the server does not answer"
            await asyncio.sleep(0.01)
        yield redis
    finally:
        await redis.aclose()


async def answers(redis: Redis) -> bool:
    """Tell whether the server answers to a PING."""
    try:
        return await redis.ping()
    except RedisError:
        return False


async def get_info(server: EmbeddedServer, name: str) -> str:
    """Return a value of INFO; `run_id` tells one run of a server from the next."""
    async with redis_of(server) as redis:
        return str((await redis.info("server"))[name])


async def eventually(fact: Callable[[], bool], description: str) -> None:
    """Wait until something is the case."""
    deadline = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < deadline, f"not within 10 s: {description}"
        await asyncio.sleep(0.01)


def processes_in(directory: Path, name: str = "") -> list[int]:
    """Return the ids of keepers and servers of a directory: both have it as their working directory."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == directory and name.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def get_keeper(directory: Path) -> int:
    """Return the process id of the one keeper."""
    (process,) = processes_in(directory, "keeper.py")
    return process


async def kill_server(server: EmbeddedServer) -> None:
    """Kill the server with SIGKILL."""
    os.kill(int(await get_info(server, "process_id")), signal.SIGKILL)


async def kill_keeper(directory: Path) -> None:
    """Kill the keeper with SIGKILL and wait until its lock is free."""
    os.kill(get_keeper(directory), signal.SIGKILL)

    def is_free() -> bool:
        with keeper.open_lock(directory / keeper.KEEPER_FILE) as lock:
            return keeper.try_lock(lock, fcntl.LOCK_EX)

    await eventually(is_free, "the keeper is dead")
