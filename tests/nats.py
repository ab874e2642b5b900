"""A NATS of our own: a free port of loopback and its own data, ended by its process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rabbitmq import LOOPBACK, free_port

_COMMAND = "nats-server"
_STARTS_WITHIN = 30.0


def is_installed() -> bool:
    """Whether there is a NATS here."""
    return shutil.which(_COMMAND) is not None


@dataclass(kw_only=True)
class Nats:
    """A server with JetStream that can be stopped and started again on its data."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        command = [_COMMAND, "--addr", LOOPBACK, "--port", str(self.port)]
        command += ["--jetstream", "--store_dir", str(self.folder / "data")]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _STARTS_WITHIN
        while not _answers(self.port):
            assert self.process.poll() is None, f"NATS ended: {self._printed()}"
            assert time.monotonic() < deadline, f"NATS does not answer: {self._printed()}"
            time.sleep(0.05)

    def _printed(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """End it, as it would by itself if it does so soon."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def _answers(port: int) -> bool:
    """Whether it speaks: it greets every connection with what it is."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False


@contextmanager
def running() -> Generator[Nats]:
    """Run a server while the context is open."""
    with tempfile.TemporaryDirectory(prefix="mageflow-nats-", ignore_cleanup_errors=True) as folder:
        server = Nats(folder=Path(folder), port=free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()
