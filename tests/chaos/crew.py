"""The processes of the chaos test: workers and the embedded server, with what kills and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.exceptions import RedisError

from mageflow.store.keys import Keys
from tests.chaos.evidence import Freeze
from tests.eventually import eventually

_ROOT = Path(__file__).parents[2]
_MOST_SKEW = 300


@dataclass(kw_only=True)
class Crew:
    """Worker processes that share a folder; one that is gone is replaced."""

    folder: Path
    environment: dict[str, str]
    random: random.Random
    skew: bool = False
    living: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])
    deaths: dict[int, float] = field(default_factory=dict[int, float])
    failures: list[str] = field(default_factory=list[str])
    freezes: list[Freeze] = field(default_factory=list[Freeze])
    kills: int = 0
    _started: int = 0

    def start(self) -> None:
        """Start a worker."""
        self._started += 1
        skew = self.random.randint(-_MOST_SKEW, _MOST_SKEW) if self.skew else 0
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        with (self.folder / f"worker-{self._started}.out").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.flows"],
                cwd=_ROOT,
                env={**environment, **self.environment, "CHAOS_SKEW": str(skew)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.living.append(process)
        (self.folder / f"worker-{self._started}.out").rename(self.output(process.pid))

    def output(self, process: int) -> Path:
        """Return where a worker prints."""
        return self.folder / f"worker-of-process-{process}.out"

    async def ready(self) -> None:
        """Return when every worker runs."""
        for process in self.living:
            output = self.output(process.pid)
            await eventually(lambda output=output: "ready" in output.read_text(), "the worker is ready", deadline=20)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker with SIGKILL."""
        self.kills += 1
        process.kill()
        process.wait()
        self._is_gone(process)

    def kill_any(self) -> None:
        """Kill one of the workers and replace it."""
        self.kill(self.random.choice(self.living))
        self.start()

    async def freeze_any(self, seconds: float) -> None:
        """Stop one of the workers for some seconds; it goes on where it was, unless it was killed meanwhile."""
        process = self.random.choice(self.living)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.freezes.append(Freeze(process=process.pid, began=began, ended=time.monotonic()))
            process.send_signal(signal.SIGCONT)

    def replace_lost(self) -> None:
        """Replace workers that ended by themselves, which none should; what they printed is kept."""
        for process in [process for process in self.living if process.poll() is not None]:
            text = self.output(process.pid).read_text()[-2000:]
            self.failures.append(f"worker {process.pid} ended by itself with {process.returncode}: {text}")
            self._is_gone(process)
            self.start()

    def _is_gone(self, process: subprocess.Popen[bytes]) -> None:
        self.living.remove(process)
        self.deaths[process.pid] = time.monotonic()

    @contextlib.contextmanager
    def at_work(self, count: int) -> Generator[None]:
        """Have so many workers; those that are left at the exit are killed."""
        for _ in range(count):
            self.start()
        try:
            yield
        finally:
            for process in list(self.living):
                self.kill(process)


class Server:
    """The embedded server, as something that dies and stops."""

    def __init__(self, url: str, namespace: str) -> None:
        self._keys = (Keys(namespace).outbox, f"{{mf:{namespace}}}:runs")
        self.client: redis.Redis = redis.Redis.from_url(url, socket_timeout=5)
        self.kills = self.pauses = 0

    def write_at_once(self) -> None:
        """Let it hand every write to the system before it answers.

        While it syncs once a second it answers before it writes; a kill at that moment loses what was answered.
        """
        self.client.config_set("appendfsync", "no")

    def _process(self) -> int:
        return int(self.client.info("server")["process_id"])

    async def kill(self) -> None:
        """Kill it with SIGKILL; return when its keeper has started another that answers."""
        before = self._process()
        self.kills += 1
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: self._is_another_than(before), "the server was started again", deadline=20)
        self.write_at_once()

    def _is_another_than(self, before: int) -> bool:
        try:
            return self._process() != before
        except (RedisError, OSError):
            return False

    async def pause(self, seconds: float) -> None:
        """Stop the process for some seconds."""
        process = self._process()
        self.pauses += 1
        os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(process, signal.SIGCONT)

    def is_idle(self) -> bool:
        """Whether nothing is due and nothing runs."""
        with self.client.pipeline() as pipeline:
            for key in self._keys:
                pipeline.zcard(key)
            return not any(pipeline.execute())

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
