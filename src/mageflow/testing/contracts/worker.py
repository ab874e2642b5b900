"""A worker process of the suite: `python -m mageflow.testing.contracts.worker module:make_client`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from mageflow import Mageflow, MageflowConfig
from mageflow.testing.contracts.ledger import Ledger, watched_runner
from mageflow.testing.contracts.tasks import register_tasks

_FOLDER = "MAGEFLOW_CONTRACT_FOLDER"
_CONFIG = "MAGEFLOW_CONTRACT_CONFIG"
_NAME = "MAGEFLOW_CONTRACT_WORKER"


def environment_of(config: MageflowConfig, folder: Path, name: str) -> Mapping[str, str]:
    """Return what `worker_client` reads in a worker process."""
    return {_FOLDER: str(folder), _CONFIG: config.model_dump_json(), _NAME: name}


def worker_client(make_client: Callable[[MageflowConfig], Mageflow]) -> Mageflow:
    """Return the client of a worker process, with the tasks of the suite; for the module that it imports."""
    client = make_client(MageflowConfig.model_validate_json(os.environ[_CONFIG]))
    ledger = Ledger(Path(os.environ[_FOLDER]), os.environ[_NAME])
    register_tasks(client, ledger)
    _for_ever.enter_context(watched_runner(ledger))
    return client


_for_ever = ExitStack()


async def _run(client: Mageflow) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with client.worker():
        await stop.wait()


def _main(target: str) -> None:
    module, _, name = target.partition(":")
    asyncio.run(_run(worker_client(getattr(import_module(module), name))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
