"""A worker of the chaos test: tasks that do what their message decides, and write down every execution.

Run as `python -m tests.chaos.flows`; the environment says where (see `main`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from hatchet_sdk import Context, DurableContext, EmptyModel

from mageflow import Mageflow, MageflowConfig, TTLConfig
from mageflow.backends.base import Submission
from mageflow.backends.hatchet import HatchetBackend
from mageflow.flow.command import Dispatch
from mageflow.flow.ids import id_of
from mageflow.run.context import current_run
from mageflow.signature import Signature
from mageflow.swarm import SwarmSignature
from tests.contracts.taskiq_subjects import BROKERS
from tests.hatchet.subjects import make_client as hatchet_client

DURABLE = "durable"
"""A durable task, which Hatchet alone has."""
RETRIES = 2
DURABLE_RETRIES = 9
"""Hatchet's client ends an attempt of a durable task that waits as its connection breaks."""
RETRIES_OF = {"flaky": RETRIES, "spawn": RETRIES, DURABLE: DURABLE_RETRIES}
"""Further attempts of tasks; others have none."""
LIFETIME = 3600.0
"""Seconds that finished flows are kept: until the audit is through."""
RECORDS = "records"
GRAPH = "graph"
"""A workflow of two tasks, which Hatchet alone has."""
HATCHET = "hatchet"
"""The broker that is an engine of Hatchet."""
SLOTS = 20
"""Tasks that a worker runs at a time."""
Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A task of a run of several tasks; its place among them stands for the number of its attempt."""

    id: str
    run: int
    attempt: int


class DecidedError(Exception):
    """What a task raises when its message says so."""


class Recorder:
    """Appends one line for each thing that happened to a file that all processes share."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, message: Message, part: Part | None = None, **more: str) -> None:
        """Note what happened to the current run, or a part; one write, which a kill leaves out or leaves whole."""
        run = part or current_run.get()
        assert run is not None
        self._write(what, id=run.id, run=run.run, attempt=run.attempt, name=message["name"], **more)

    def broke(self, error: BaseException) -> None:
        """Note that this process ends by an error of its own."""
        self._write("broke", error=repr(error))

    def _write(self, what: str, **about: str | int) -> None:
        # A worker is a group of processes: those of TaskIQ's command have one for their tasks.
        place = {"process": os.getpgrp(), "own": os.getpid(), "at": time.monotonic()}
        os.write(self._file, json.dumps({**about, "what": what, **place}).encode() + b"\n")

    @contextlib.contextmanager
    def execution(self, message: Message, part: Part | None = None) -> Generator[None]:
        """Note the beginning and the end of an execution."""
        self.note("began", message, part)
        try:
            yield
        except asyncio.CancelledError:
            self.note("stopped", message, part)
            raise
        except Exception:
            self.note("failed", message, part)
            raise
        self.note("ended", message, part)


def digest(value: object) -> str:
    """Return a short text that stands for a result."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def of_error(kind: str) -> str:
    """Return what stands for an error of this type."""
    return f"error {kind}"


def result_of(name: str, after: str) -> dict[str, str]:
    """Return the result of a task: its name, and what stands for the value that it got."""
    return {"name": name, "after": after}


def _outcome(message: Message) -> dict[str, str]:
    run = current_run.get()
    assert run is not None
    return _outcome_of(message, run.attempt)


def _outcome_of(message: Message, attempt: int) -> dict[str, str]:
    if attempt <= int(message.get("failures", 0)):
        raise DecidedError(message["name"])
    if error := message.get("mageflow_error"):
        return result_of(message["name"], of_error(error["type"]))
    return result_of(message["name"], digest(message["mageflow_results"]) if "mageflow_results" in message else "")


def register(client: Mageflow, recorder: Recorder) -> None:
    """Register the tasks."""

    async def work(message: Message) -> dict[str, str]:
        with recorder.execution(message):
            await asyncio.sleep(message["pause"])
            return _outcome(message)

    def plain(message: Message) -> dict[str, str]:
        with recorder.execution(message):
            time.sleep(message["pause"])
            return _outcome(message)

    async def grow(message: Message) -> dict[str, str]:
        with recorder.execution(message):
            swarm = await client.load_signature(message["swarm"])
            assert isinstance(swarm, SwarmSignature)
            for task, bound in message["adds"]:
                await asyncio.sleep(message["pause"])
                await swarm.aio_run_in_swarm(await client.asign(task, kwargs=bound))
            await asyncio.sleep(message["pause"])
            await swarm.close_swarm()
            await asyncio.sleep(message["pause"])
            return _outcome(message)

    async def spawn(message: Message) -> dict[str, str]:
        with recorder.execution(message):
            for child in message["spawns"]:
                await asyncio.sleep(message["pause"])
                async with client.abounded_field() if message["atomic"] else contextlib.nullcontext():
                    made = await _make_child(client, child)
                    recorder.note("made", message, child=child["name"], made=id_of(client.config.namespace, made.key))
                    await made.aio_run_no_wait()
            return _outcome(message)

    client.task(name="spawn", retries=RETRIES)(spawn)
    client.task(name="grow")(grow)
    client.task(name="work")(work)
    client.task(name="plain")(plain)
    client.task(name="flaky", retries=RETRIES)(work)


def register_at_hatchet(client: Any, recorder: Recorder) -> None:
    """Register what Hatchet alone has: a workflow of two tasks, a task that sleeps without holding its place."""
    graph = client.workflow(name=GRAPH)

    def part(ctx: Context, number: int) -> Part:
        run = uuid.UUID(ctx.workflow_run_id).int * 1000 + ctx.retry_count * 10 + number
        return Part(id=ctx.additional_metadata["mageflow_key"].rpartition(":")[2], run=run, attempt=number)

    @graph.task()
    async def head(message: EmptyModel, ctx: Context) -> dict[str, str]:
        given = dict(message)
        with recorder.execution(given, part(ctx, 1)):
            await asyncio.sleep(given["pause"])
            return result_of(given["name"], "")

    @graph.task(parents=[head])
    async def tail(message: EmptyModel, ctx: Context) -> dict[str, str]:
        given = dict(message)
        with recorder.execution(given, part(ctx, 2)):
            await asyncio.sleep(given["pause"])
            return _outcome_of(given, 1)

    @client.durable_task(name=DURABLE, retries=DURABLE_RETRIES, execution_timeout=timedelta(seconds=15))
    async def durable(message: Message, ctx: DurableContext) -> dict[str, str]:
        with recorder.execution(message):
            await ctx.aio_sleep_for(timedelta(seconds=1))
            return _outcome(message)


async def _make_child(client: Mageflow, child: Message) -> Signature[Any, Any]:
    """Create what a task starts: a task, or a chain of tasks."""
    if "members" in child:
        return await client.achain([await _make_child(client, member) for member in child["members"]], child["name"])
    return await client.asign(child["task"], kwargs=child["bound"])


def send_twice(client: Mageflow) -> None:
    """Let everything that this client hands to the task manager be delivered twice."""
    if isinstance(client._backend, HatchetBackend):
        _submit_twice(client._backend)
        return
    broker = client._backend.manager
    stock = cast("type[Any]", type(broker))

    async def twice(self: Any, message: Any) -> None:
        await stock.kick(self, message)
        await stock.kick(self, message)

    # A class of its own, as a user's broker would be: then no message goes past it.
    broker.__class__ = type(f"Doubling{stock.__name__}", (stock,), {"kick": twice})


def _submit_twice(backend: HatchetBackend) -> None:
    """Let it be as if no answer to a request came, and each was made again: of every dispatch there are two runs."""
    submit = backend.submit

    async def twice(batch: Sequence[Dispatch]) -> Sequence[Submission]:
        await submit(batch)
        return await submit(batch)

    setattr(backend, "submit", twice)  # noqa: B010 - to pyright a method is not assigned to


def make_client(environment: Mapping[str, str]) -> Mageflow:
    """Return a client with the tasks; a task that loses its worker is never given up.

    Args:
        environment: `CHAOS_FOLDER`, `CHAOS_NAMESPACE`, `CHAOS_DOUBLE`; `CHAOS_BROKER`, one of TaskIQ's, an engine of
            Hatchet or else the embedded default; `REDIS_URL`, else the server of `MAGEFLOW_DIRECTORY`.
    """
    namespace, broker = environment["CHAOS_NAMESPACE"], environment["CHAOS_BROKER"]
    config = MageflowConfig(namespace=namespace, crash_limit=1_000_000, ttl=TTLConfig(done_ttl=LIFETIME))
    make = hatchet_client if broker == HATCHET else BROKERS.get(broker)
    client = Mageflow(None, environment.get("REDIS_URL"), config=config) if make is None else make(config)
    recorder = Recorder(Path(environment["CHAOS_FOLDER"]))
    register(client, recorder)
    if broker == HATCHET:
        register_at_hatchet(client, recorder)
    if environment["CHAOS_DOUBLE"] == "1":
        send_twice(client)
    return client


def skew_clock(seconds: float) -> None:
    """Let this process believe that it is later, or earlier."""
    real: Callable[[], float] = time.time
    time.time = lambda: real() + seconds


async def main(environment: Mapping[str, str]) -> None:
    """Run a worker until it is killed, or told to leave."""
    skew_clock(float(environment["CHAOS_SKEW"]))
    async with make_client(environment).worker(slots=SLOTS):
        leaving = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await leaving.wait()


if __name__ == "__main__":
    asyncio.run(main(os.environ))
