"""The example application does what its page says, with its two commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.leaks import remove

_APP = Path(__file__).parents[2] / "examples" / "hatchet_app"
_DEADLINE = 90.0


@pytest.fixture
def worker_output(hatchet_environment: Address | None, redis_url: str, tmp_path: Path) -> Iterator[Path]:
    """What the worker prints, once it listens; the application's namespace is fixed, so it is emptied."""
    path = tmp_path / "worker.out"
    with path.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py", "worker"],
            cwd=_APP,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield path
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with redis.Redis.from_url(redis_url) as client:
        remove(client, "{mf:hatchet-app}*")


@pytest.mark.timeout(200)
async def test_crawl(worker_output: Path) -> None:
    """The page that is missing is noted after its last attempt, the words of the others are added up."""
    await eventually(lambda: "waiting for tasks" in worker_output.read_text(), "the worker is ready", _DEADLINE)
    crawl = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "app.py"], cwd=_APP, capture_output=True, text=True, timeout=_DEADLINE, check=False
    )
    assert crawl.stdout.splitlines()[-1:] == [str(2 * len("https://example.com/one"))], crawl.stderr
    noted = "https://example.com/missing: there is no https://example.com/missing (attempt 3)"
    await eventually(lambda: noted in worker_output.read_text(), "the problem is noted", _DEADLINE)
