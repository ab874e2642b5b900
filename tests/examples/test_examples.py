"""The examples of one file run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An embedded server of the test's own, for this process and those that it starts."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("MAGEFLOW_DIRECTORY", str(tmp_path / "data"))
    return dict(os.environ)


@pytest.mark.parametrize(
    ("script", "arguments", "printed"),
    [
        ("script", [], "285"),
        ("loop", [], "ready: export 7 after 3 looks"),
        ("fan_out", [], "['/', '/blog', '/docs', '/docs/guide']"),
        ("map_reduce", ["one", "two"], "{'a': 3, 'b': 2, 'c': 1}"),
    ],
)
def test_script_prints_its_result(
    environment: dict[str, str], tmp_path: Path, script: str, arguments: list[str], printed: str
) -> None:
    """The script makes a flow, works it off and leaves with its result."""
    (tmp_path / "one").write_text("a b a")
    (tmp_path / "two").write_text("c b a")
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{script}.py"), *arguments]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=25, check=False, env=environment, cwd=tmp_path
    )
    assert (finished.returncode, finished.stdout.strip()) == (0, printed), finished.stderr


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A worker of the Flask app's client, by the command; what it prints is in the file."""
    output = tmp_path / "worker.out"
    command = [sys.executable, "-m", "mageflow.cli", "worker", "flask_app:client"]
    with output.open("w") as stream:
        process = subprocess.Popen(command, env=environment, cwd=EXAMPLES, stdout=stream, stderr=stream)
    yield output
    process.terminate()
    process.wait(timeout=15)


async def test_flask_app_starts_and_shows_flows(worker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app answers with the key of the flow that it started, and with its result once a worker has run it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    module: Any = import_module("flask_app")
    web = module.app.test_client()
    try:
        placed = await asyncio.to_thread(web.post, "/orders/7")
        assert placed.status_code == 202
        found: dict[str, Any] = {}

        async def is_done() -> bool:
            found.update((await asyncio.to_thread(web.get, f"/orders/{placed.json['key']}")).json)
            return found["status"] == "done"

        await eventually(is_done, "the flow is done", 20, found=worker.read_text)
        assert found["result"] == "parcel from shelf 7"
        unknown = await asyncio.to_thread(web.get, "/orders/mf:default:01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert unknown.status_code == 404
    finally:
        await asyncio.to_thread(module.client.sync.shutdown)
        sys.modules.pop("flask_app")
