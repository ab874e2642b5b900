"""The example application does over HTTP what its page says, with its two commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import redis

from tests.eventually import eventually
from tests.leaks import remove

_APP = Path(__file__).parents[2] / "examples" / "taskiq_app"
_DEADLINE = 20.0
_ADDRESSES = [f"n{n}@example.org" for n in range(12)]


@dataclass(kw_only=True)
class Commands:
    """The processes of the application, and what they print."""

    folder: Path
    url: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def start(self, name: str, *arguments: str) -> None:
        """Run a Python module as a process."""
        with self._path(name).open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=_APP,
                env={**os.environ, "REDIS_URL": self.url, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self) -> None:
        """Run a worker."""
        self.start("worker", "taskiq", "worker", "tasks:broker", "--workers", "1")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.out"

    def printed(self, name: str) -> str:
        """Return what a process printed."""
        return self._path(name).read_text()

    async def prints(self, name: str, pattern: str) -> re.Match[str]:
        """Wait until a process printed something."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.printed(name))

        await eventually(lambda: found() is not None, f"{name} prints {pattern}", _DEADLINE, lambda: self.printed(name))
        match = found()
        assert match is not None
        return match


@pytest.fixture
def commands(tmp_path: Path, redis_url: str) -> Iterator[Commands]:
    """Processes that end with the test; the application's namespace is fixed, so it is emptied."""
    commands = Commands(folder=tmp_path, url=redis_url)
    yield commands
    for process in commands.processes.values():
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with redis.Redis.from_url(redis_url) as client:
        remove(client, "{mf:mailing}*")
        remove(client, "mailing*")


@dataclass(kw_only=True)
class Api:
    """The application over HTTP."""

    http: httpx.AsyncClient

    async def start(self, **campaign: Any) -> str:
        """Start a campaign and return its key."""
        answer = await self.http.post("/campaigns", json=campaign)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]

    async def state(self, key: str) -> dict[str, Any]:
        """Return the state of a campaign."""
        answer = await self.http.get(f"/campaigns/{key}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def steer(self, key: str, verb: str) -> dict[str, Any]:
        """Pause, resume or cancel a campaign."""
        answer = await self.http.post(f"/campaigns/{key}/{verb}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def becomes(self, key: str, status: str) -> dict[str, Any]:
        """Wait until a campaign has a status."""
        states: list[dict[str, Any]] = []

        async def has() -> bool:
            states[:] = [await self.state(key)]
            return states[0]["status"] == status

        await eventually(has, f"the campaign is {status}", _DEADLINE, lambda: states)
        return states[0]


@pytest_asyncio.fixture
async def api(commands: Commands) -> AsyncIterator[Api]:
    """The web process, on a free port of the loopback."""
    commands.start("api", "uvicorn", "api:app", "--host", "127.0.0.1", "--port", "0")
    match = await commands.prints("api", r"running on (http://127\.0\.0\.1:\d+)")
    async with httpx.AsyncClient(base_url=match[1], timeout=10) as http:
        yield Api(http=http)


@pytest.mark.timeout(90)
async def test_campaigns(api: Api, commands: Commands) -> None:
    """Campaigns start, show their progress, are paused, resumed and canceled, and end with their callbacks."""
    refused = await api.http.post("/campaigns", json={"subject": "early", "recipients": _ADDRESSES})
    assert (refused.status_code, "start a worker" in refused.text) == (503, True)
    commands.start_worker()
    await commands.prints("worker", "Listening started")

    sent = await api.becomes(await api.start(subject="news", recipients=_ADDRESSES, at_a_time=4), "done")
    assert sent["sent"] == _ADDRESSES
    assert (sent["progress"]["total"], sent["progress"]["done"], sent["waits_on"]) == (12, 12, None)
    await commands.prints("worker", "report: 'news' went to 12")

    held = await api.start(subject="held", recipients=_ADDRESSES, at_a_time=1, seconds_per_mail=0.3)
    state = await api.steer(held, "pause")
    assert (state["status"], state["waits_on"]["kind"]) == ("suspended", "mark")
    assert state["progress"]["pending"] > 0
    assert "report: 'held'" not in commands.printed("worker")
    await api.steer(held, "resume")
    assert (await api.becomes(held, "done"))["sent"] == _ADDRESSES

    long = await api.start(subject="long", recipients=_ADDRESSES, at_a_time=3, seconds_per_mail=200)
    await eventually(lambda: _runs(api, long, 3), "three mails are being sent", _DEADLINE)
    state = await api.steer(long, "cancel")
    assert (state["status"], state["progress"]["canceled"] > 0) == ("canceled", True)

    failed = await api.start(subject="bad", recipients=["nobody", "no one", *_ADDRESSES], stop_after_failures=2)
    await api.becomes(failed, "failed")
    await commands.prints("worker", "alarm: 'bad' was stopped: '(nobody|no one)' is no address")


async def _runs(api: Api, key: str, count: int) -> bool:
    return (await api.state(key))["progress"]["active"] == count


async def test_what_is_wrong_is_answered(api: Api) -> None:
    """Unknown campaigns, verbs and messages that do not fit are answered with what is wrong."""
    missing = await api.http.get("/campaigns/mf:mailing:01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert missing.status_code == 404
    assert (await api.http.post("/campaigns/mf:mailing:01ARZ3NDEKTSV4RRFFQ69G5FAV/pause")).status_code == 404
    assert (await api.http.post("/campaigns/mf:mailing:01ARZ3NDEKTSV4RRFFQ69G5FAV/explode")).status_code == 422
    assert (await api.http.post("/campaigns", json={"subject": "none", "recipients": []})).status_code == 422
