"""A RabbitMQ of our own: free ports of loopback, its own data, name and port mapper, ended by its process group."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself; the command on the PATH would change the user."""
_STARTS_WITHIN = 90.0
LOOPBACK = "127.0.0.1"


def is_installed() -> bool:
    """Whether there is a RabbitMQ here."""
    return _SCRIPT.exists() and shutil.which("epmd") is not None


@dataclass(kw_only=True)
class RabbitMQ:
    """A server that can be stopped and started again on its data."""

    folder: Path
    ports: list[int]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """Where it listens, as an environment."""
        return {"RABBITMQ_URL": self.url}

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        port, distribution, mapper = self.ports
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"mageflow-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        (self.folder / "plugins").write_text("[].")
        self._run(["epmd", "-port", str(mapper), "-address", LOOPBACK], environment)
        self._run([str(_SCRIPT)], environment)
        deadline = time.monotonic() + _STARTS_WITHIN
        while not _answers(port):
            ended = self.processes[-1].poll() is not None
            assert not ended, f"RabbitMQ ended: {self._printed()}"
            assert time.monotonic() < deadline, f"RabbitMQ does not answer: {self._printed()}"
            time.sleep(0.1)

    def _run(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / "output").open("ab") as output:
            self.processes.append(
                subprocess.Popen(
                    command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            )

    def _printed(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """End it, as it would by itself if it does so soon."""
        for process, number in zip(reversed(self.processes), (signal.SIGTERM, signal.SIGKILL), strict=False):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()


def _answers(port: int) -> bool:
    """Whether it speaks: it answers a greeting of another protocol with the name of its own."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"AMQP\x00\x00\x00\x00")
            return connection.recv(4) == b"AMQP"
    except OSError:
        return False


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return listener.getsockname()[1]


@contextmanager
def running() -> Generator[RabbitMQ]:
    """Run a server while the context is open."""
    with tempfile.TemporaryDirectory(prefix="mageflow-rabbitmq-", ignore_cleanup_errors=True) as folder:
        server = RabbitMQ(folder=Path(folder), ports=[free_port() for _ in range(3)])
        try:
            server.start()
            yield server
        finally:
            server.stop()
