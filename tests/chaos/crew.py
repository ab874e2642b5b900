"""The processes of the chaos test: workers and the embedded server, with what kills and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import redis
from redis.exceptions import RedisError

from mageflow.store.keys import Keys
from tests.chaos.evidence import Freeze, Leave, Outage
from tests.chaos.flows import HATCHET, SLOTS
from tests.eventually import eventually

_ROOT = Path(__file__).parents[2]
_MOST_SKEW = 300
_OWN = [sys.executable, "-m", "tests.chaos.flows"]
_OPTIONS = ["--workers", "1", "--max-async-tasks", str(SLOTS)]
_TASKIQ = [sys.executable, "-m", "taskiq", "worker", "tests.chaos.taskiq_worker:broker", *_OPTIONS]
_HATCHET = [sys.executable, "-m", "tests.chaos.hatchet_worker"]
_COMMANDS = {"": _OWN, HATCHET: _HATCHET}
_STARTING = 90.0
"""Seconds in which workers must be ready; one that cannot register with Hatchet's engine takes 15 to end."""
_LEAVING = 40.0
"""Seconds after which a worker that was told to leave must be gone; it may be frozen for some of them."""
_FIXED = re.compile(r"tasks|lo|beat|gap|stamp|workers|queue:.*")
"""Keys that a namespace needs as long as there are workers."""


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
    leaves: list[Leave] = field(default_factory=list[Leave])
    leaving: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])
    kills: int = 0
    _started: int = 0

    def start(self) -> None:
        """Start a worker."""
        self._started += 1
        skew = self.random.randint(-_MOST_SKEW, _MOST_SKEW) if self.skew else 0
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        with (self.folder / f"worker-{self._started}.out").open("wb") as output:
            process = subprocess.Popen(
                _COMMANDS.get(self.environment["CHAOS_BROKER"], _TASKIQ),
                cwd=_ROOT,
                env={**environment, **self.environment, "CHAOS_SKEW": str(skew)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.living.append(process)
        (self.folder / f"worker-{self._started}.out").rename(self.output(process.pid))

    def output(self, process: int) -> Path:
        """Return where a worker prints."""
        return self.folder / f"worker-of-process-{process}.out"

    async def ready(self) -> None:
        """Return when every worker runs, those too that replace what is gone meanwhile."""

        def all_up() -> bool:
            self.replace_lost()
            return len(self._up()) == len(self.living)

        await eventually(all_up, "the workers are ready", deadline=_STARTING)

    def _up(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self.living if self._is_up(process)]

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        printed = self.output(process.pid).read_text()
        return "ready" in printed or "Listening started" in printed

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker with SIGKILL."""
        self.kills += 1
        _end(process)
        self._is_gone(process)

    def kill_any(self) -> None:
        """Kill one of the workers that are up and replace it."""
        if up := self._up():
            self.kill(self.random.choice(up))
            self.start()

    async def dismiss_any(self) -> None:
        """Tell one of the workers that are up to leave in the clean way, and replace it at once."""
        if not (up := self._up()):
            return
        process = self.random.choice(up)
        self.living.remove(process)
        self.leaving.append(process)
        began = time.monotonic()
        process.terminate()
        self.start()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: process.poll() is not None, "the worker has left", _LEAVING)
        self.leaving.remove(process)
        if process.returncode is None:
            self.failures.append(f"worker {process.pid} did not leave: {self.output(process.pid).read_text()[-2000:]}")
            _end(process)
            self.deaths[process.pid] = time.monotonic()
        else:
            leave = Leave(process=process.pid, began=began, ended=time.monotonic(), code=process.returncode)
            self.leaves.append(leave)

    async def freeze_any(self, seconds: float) -> None:
        """Stop one of the workers for some seconds; it goes on where it was, unless it was killed meanwhile."""
        process = self.random.choice(self.living)
        _signal(process, signal.SIGSTOP)
        began = time.monotonic()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.freezes.append(Freeze(process=process.pid, began=began, ended=time.monotonic()))
            if process.poll() is None:
                _signal(process, signal.SIGCONT)

    async def keep_complete(self) -> None:
        """Replace workers that ended by themselves, as who runs them for good would; until canceled."""
        while True:
            self.replace_lost()
            await asyncio.sleep(0.5)

    def replace_lost(self) -> None:
        """Replace workers that ended by themselves, which none should; what they printed is kept."""
        for process in [process for process in self.living if process.poll() is not None]:
            if not self._ended_unregistered(process):
                text = self.output(process.pid).read_text()[-2000:]
                self.failures.append(f"worker {process.pid} ended by itself with {process.returncode}: {text}")
            self._is_gone(process)
            self.start()

    def _ended_unregistered(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether Hatchet's client gave up because the engine was away when it was to register there."""
        away = "UNAVAILABLE" in self.output(process.pid).read_text()
        return self.environment["CHAOS_BROKER"] == HATCHET and away and not self._is_up(process)

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
            for process in [*self.living, *self.leaving]:
                _end(process)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a worker and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL)
    process.wait()


class Server:
    """The embedded server, as something that dies and stops."""

    def __init__(self, url: str, namespace: str) -> None:
        self._keys = (Keys(namespace).outbox, f"{{mf:{namespace}}}:runs")
        self.client: redis.Redis = redis.Redis.from_url(url, socket_timeout=5)
        self._prefix = f"{{mf:{namespace}}}:"
        self.kills = self.pauses = 0
        self.outages: list[Outage] = []

    def write_at_once(self) -> None:
        """Let it hand every write to the system before it answers.

        While it syncs once a second it answers before it writes; a kill at that moment loses what was answered.
        """
        self.client.config_set("appendfsync", "no")

    def _process(self) -> int:
        return int(self.client.info("server")["process_id"])

    async def kill(self) -> None:
        """Kill it with SIGKILL; return when its keeper has started another that answers."""
        before, began = self._process(), time.monotonic()
        self.kills += 1
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: self._is_another_than(before), "the server was started again", deadline=20)
        self.write_at_once()
        self.outages.append(Outage(began=began, ended=time.monotonic()))

    def _is_another_than(self, before: int) -> bool:
        try:
            return self._process() != before
        except (RedisError, OSError):
            return False

    async def pause(self, seconds: float) -> None:
        """Stop the process for some seconds."""
        process, began = self._process(), time.monotonic()
        self.pauses += 1
        os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(process, signal.SIGCONT)
            self.outages.append(Outage(began=began, ended=time.monotonic()))

    def age(self, seconds: float) -> None:
        """Let everything be older by so much that has a lifetime: keys, and what is listed with its expiry."""
        keys = [*cast("Iterator[bytes]", self.client.scan_iter(match=f"{self._prefix}*", count=1000))]
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pttl(key)
            for key, left in zip(keys, cast("list[int]", pipeline.execute()), strict=True):
                if left >= 0:
                    pipeline.pexpire(key, max(1, left - int(seconds * 1000)))
            pipeline.execute()
        for name in ("ix:p", "ix:d", "ix:f", "ix:c", "drafts"):
            listed = cast("list[tuple[bytes, float]]", self.client.zrange(self._prefix + name, 0, -1, withscores=True))
            for member, expiry in listed:
                self.client.zadd(self._prefix + name, {member: expiry - seconds * 1000}, xx=True)

    def left(self) -> list[str]:
        """Return the keys that are there, but for the fixed ones."""
        found = cast("Iterator[bytes]", self.client.scan_iter(match=f"{self._prefix}*", count=1000))
        names = [key.decode().removeprefix(self._prefix) for key in found]
        return sorted(name for name in names if not _FIXED.fullmatch(name))

    def is_idle(self) -> bool:
        """Whether nothing is due and nothing runs."""
        with self.client.pipeline() as pipeline:
            for key in self._keys:
                pipeline.zcard(key)
            return not any(pipeline.execute())

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
