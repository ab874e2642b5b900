"""Processes of the suite: the engine, workers."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.hatchet.engine.values import TENANT

REASSIGN_AFTER = 9.0
"""Seconds after which the engine gives a lost worker's runs to another; the worker's heartbeat comes every 4 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine is, as the client's settings."""

    token: str
    host_port: str
    server_url: str

    @property
    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            "HATCHET_CLIENT_TOKEN": self.token,
            "HATCHET_CLIENT_HOST_PORT": self.host_port,
            "HATCHET_CLIENT_SERVER_URL": self.server_url,
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
        }

    async def restart(self, down: float = 1.0) -> None:
        """Close the engine, open it again: its state stays, every connection breaks."""
        request = urllib.request.Request(f"{self.server_url}/control/restart?down={down}", method="POST")  # noqa: S310
        await asyncio.to_thread(lambda: urllib.request.urlopen(request).close())  # noqa: S310 - our own engine


def _token(server_url: str, host_port: str) -> str:
    """Return a token as the client reads it; nobody checks its signature."""

    def part(values: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")

    claims = {"sub": TENANT, "server_url": server_url, "grpc_broadcast_address": host_port}
    return f"{part({'alg': 'none'})}.{part(claims)}.none"


@contextmanager
def engine_process(reassign_after: float = REASSIGN_AFTER) -> Generator[Address]:
    """Run an engine in a process of its own."""
    command = [sys.executable, "-m", "tests.hatchet.engine", str(reassign_after)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        host_port, server_url = f"127.0.0.1:{ports['grpc']}", f"http://127.0.0.1:{ports['rest']}"
        yield Address(token=_token(server_url, host_port), host_port=host_port, server_url=server_url)
    finally:
        process.communicate()
