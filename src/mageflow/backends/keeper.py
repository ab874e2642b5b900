"""Keep the embedded server of one directory alive for as long as somebody uses it.

Every user of the server holds a shared lock on the file `users` of the directory. The keeper is a small process of its
own that owns the server: it starts it, starts it again on its append-only file when it dies, and waits for an exclusive
lock on `users`. The kernel drops the lock of a dead process, so the keeper gets it when the last user is gone, however
that user went; then it shuts the server down.

The keeper holds an exclusive lock on the file `keeper`, which it inherits from whoever started it: the lock is never
free in between. At the end it lets go of `keeper` first and of `users` second, so that whoever gets `users` sees either
a keeper that will not leave, or none.

This file is run by its path in an interpreter without site-packages: it may import the standard library only.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

USERS_FILE = "users"
KEEPER_FILE = "keeper"
LOG_FILE = "valkey.log"
LOG_LIMIT = 1_000_000
"""Bytes; a longer log is put aside when a keeper starts."""

_STOP_TIMEOUT = 30.0
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 5.0
_SHORT_LIFE = 5.0


def connect(path: str, timeout: float = 1.0) -> socket.socket:
    """Return a connection to the server at this socket; an `OSError` says why there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def is_listening(path: str) -> bool:
    """Tell whether a server has this socket open, even one that is too busy to answer."""
    try:
        connect(path).close()
    except (BlockingIOError, TimeoutError):
        return True
    except OSError:
        return False
    return True


def open_lock(path: Path) -> FileIO:
    """Open a file to lock, in its own open file description: two locks in one process are two locks."""
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+")


def open_log(path: Path) -> FileIO:
    """Open the log to append to it."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a")


def try_lock(file: FileIO, operation: int) -> bool:
    """Take a lock if it is free now."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def server_command(binary: str, directory: Path, socket_path: str) -> list[str]:
    """Return the command line of the server: durable, never evicting, reachable through its socket alone."""
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": str(directory / LOG_FILE),
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


class Keeper:
    """Owns the server process of one directory; `run` returns when the last user has gone."""

    def __init__(self, directory: Path, socket_path: str, binary: str, lock: FileIO) -> None:
        self._directory = directory
        self._socket_path = socket_path
        self._binary = binary
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._ending = threading.Event()

    def run(self) -> None:
        """Serve until nobody holds `users`, or until SIGTERM; leave neither server nor lock behind."""
        watcher = threading.Thread(target=self._watch, daemon=True)
        with open_lock(self._directory / USERS_FILE) as users, self._lock:
            try:
                watcher.start()
                fcntl.flock(users, fcntl.LOCK_EX)
            finally:
                self._end(watcher)
                self._lock.close()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the binary of our own wheel, or of the PATH
            server_command(self._binary, self._directory, self._socket_path),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )

    def _watch(self) -> None:
        """Start the server whenever there is none; if the first one fails at once, end the keeper instead."""
        pause = 0.0
        while True:
            started = time.monotonic()
            with self._changing:
                if self._ending.is_set():
                    return
                if pause > 0.0 or not is_listening(self._socket_path):
                    self._start()
            failed = self._wait_for_end()
            short = time.monotonic() - started < _SHORT_LIFE
            if failed and short and pause == 0.0 and not self._ending.is_set():
                os._exit(1)
            pause = min(max(_FIRST_PAUSE, pause * 2), _LONGEST_PAUSE) if short else _FIRST_PAUSE
            self._ending.wait(pause)

    def _wait_for_end(self) -> bool:
        """Wait until the server is gone; return whether it gave up by itself."""
        if self._process is not None:
            return self._process.wait() > 0
        # Not our child: its connections close when it ends. It may also close them for want of room.
        while is_listening(self._socket_path):
            _wait_for_close(self._socket_path, b"PING")
            self._ending.wait(_FIRST_PAUSE)
        return False

    def _end(self, watcher: threading.Thread) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with self._changing:
            self._ending.set()
        if self._process is None:
            _wait_for_close(self._socket_path, b"SHUTDOWN NOSAVE")
        else:
            self._process.terminate()
        watcher.join(_STOP_TIMEOUT)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _wait_for_close(socket_path: str, command: bytes) -> None:
    """Send a command to the server, then wait until it closes the connection (NOSAVE is about snapshots alone)."""
    try:
        with connect(socket_path) as connection:
            connection.sendall(command + b"\r\n")
            connection.settimeout(None)
            while connection.recv(4096):
                pass
    except OSError:
        return


def _stop_on_sigterm(number: int, frame: object) -> None:
    del number, frame
    raise SystemExit(0)


def _put_long_log_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Become a process of our own, then keep the server."""
    parser = argparse.ArgumentParser(description="Keep the embedded server of a directory.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--lock", required=True, type=int, help="descriptor of the locked file `keeper`")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    os.chdir(options.directory)
    signal.signal(signal.SIGTERM, _stop_on_sigterm)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    if os.fork():  # last: who started us goes on once the parent is gone, and may signal the child at once
        os._exit(0)
    _put_long_log_aside(options.directory / LOG_FILE)
    Keeper(options.directory, options.socket, options.binary, FileIO(options.lock, "r+")).run()


if __name__ == "__main__":
    main()
