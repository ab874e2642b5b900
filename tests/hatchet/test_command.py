"""`mageflow worker` runs a worker of Hatchet where the client wraps one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mageflow import MageflowConfig
from mageflow.store.store import Store
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.subjects import make_client


@pytest.mark.timeout(120)
async def test_worker_command(hatchet_environment: Address | None, namespace: str, tmp_path: Path) -> None:
    """It serves the tasks of the client that it is given, and SIGTERM ends it gracefully."""
    namespace = namespace.lower()
    client = make_client(MageflowConfig(namespace=namespace))
    await client.startup()
    command = [sys.executable, "-m", "mageflow.cli", "worker", "tests.hatchet.command_app:client", "--slots", "5"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - not waited for
            command,
            env={**os.environ, "MAGEFLOW_TEST_NAMESPACE": namespace},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        store = (await client._host.open()).store
        await eventually(lambda: _is_known(store), "the worker makes its task known", 60)
        signature = await client.asign("served", n=1)
        assert await signature.aio_run(timeout=60) == 2, (tmp_path / "output").read_text()
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None, "the worker ends", 30)
        assert process.returncode == 0, (tmp_path / "output").read_text()
    finally:
        await client.shutdown()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


async def _is_known(store: Store) -> bool:
    return "served" in await store.task_names()
