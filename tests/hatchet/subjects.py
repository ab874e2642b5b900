"""How the suites reach Hatchet: a real engine where the environment names one, else the engine for tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hatchet_sdk import ClientConfig, Hatchet
from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig

SLOTS = 100
_START = 60.0
_PAUSE = 0.05
_FORKED = multiprocessing.get_context("forkserver")
"""Has Hatchet's client loaded; the worker's own way to start its listener loads it anew each time, for seconds."""
_FORKED.set_forkserver_preload(["hatchet_sdk.worker.action_listener_process"])


def make_client(config: MageflowConfig) -> Mageflow:
    """Return a client; flows of different namespaces are of different namespaces of Hatchet too."""
    hatchet = Hatchet(config=ClientConfig(namespace=config.namespace.lower()))
    return Mageflow(hatchet, os.environ["REDIS_URL"], config=config)


async def call(_client: Mageflow, task: Any, message: BaseModel) -> Any:
    """Call a task as one does without MageFlow."""
    return await task.aio_run(message)


@contextmanager
def in_thread(worker: Any, hatchet: Any) -> Generator[None]:
    """Run a worker of Hatchet in a thread of this process; it has a loop of its own."""
    worker._ctx = _FORKED

    def run() -> None:
        try:
            worker.start()
        except SystemExit:
            return

    thread = threading.Thread(target=run, name="hatchet-worker")
    thread.start()
    try:
        until = time.monotonic() + _START
        while not any(row.name == worker.name and row.status == "ACTIVE" for row in hatchet.workers.list().rows or ()):
            assert thread.is_alive(), "the worker ended"
            assert time.monotonic() < until, "the worker does not listen"
            time.sleep(_PAUSE)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(worker.exit_gracefully(), worker._loop)
        thread.join()
        _close(worker._loop)
        listener = worker._action_listener_process  # it stays when its engine is gone
        if listener is not None:
            listener.join(5)
            listener.kill()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop of a worker that has ended: Hatchet leaves it as it is, with what waits on it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_START))
    loop.close()


@contextmanager
def worker_thread(client: Mageflow, **options: Any) -> Generator[None]:
    """Run a worker of a client in a thread."""
    with in_thread(client.worker("worker", **{"slots": SLOTS, **options}), client):
        yield


@asynccontextmanager
async def serve(client: Mageflow) -> AsyncGenerator[object]:
    """Run a worker of Hatchet in a thread while a context of a coroutine is open; then the client is as before."""
    was_open = client._host.engine is not None
    serving = worker_thread(client)
    serving.__enter__()  # the constructor installs handlers of signals: it wants the main thread
    try:
        yield client
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)
        if not was_open:
            await client.shutdown()
