"""Puts the demo's tasks together: the client that knows them and the flow made of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mageflow import ChainSignature, Mageflow, MageflowConfig, SwarmConfig, SwarmSignature, TaskSignature
from mageflow.cli.demo import tasks
from mageflow.cli.demo.sources import SourceFile

# Signatures created at the same time share their round trips to the store.
_BATCH = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoFlow:
    """The flow of the demo and those of its parts that the terminal shows."""

    chain: ChainSignature[Any, Any]
    read: SwarmSignature[Any, Any]
    rank: TaskSignature[Any, Any]
    render: TaskSignature[Any, Any]


def create_client() -> Mageflow:
    """Make a client on the embedded server that knows the demo's tasks."""
    client = Mageflow(config=MageflowConfig(namespace="demo"))
    client.task(name="parse-file", retries=0)(tasks.parse_file)
    client.task(name="note-failure", retries=2)(tasks.note_failure)
    client.task(name="rank-files", retries=0)(tasks.rank_files)
    client.task(name="render-report", retries=0)(tasks.render_report)
    client.task(name="write-report", retries=2)(tasks.write_report)
    return client


async def create_flow(
    client: Mageflow, sources: Sequence[SourceFile], *, folder: Path, run: str, concurrency: int
) -> DemoFlow:
    """Create the flow that reads `sources` and writes its report to `folder`; nothing of it runs yet.

    Args:
        client: A started client of `create_client`.
        sources: The files to read.
        folder: Where notes and report go.
        run: The name of this run of the demo.
        concurrency: How many files are read at the same time, over all workers together.
    """
    note = await client.asign(tasks.note_failure, folder=str(folder), run=run)
    members: list[TaskSignature[Any, Any]] = []
    for first in range(0, len(sources), _BATCH):
        members += await asyncio.gather(
            *(
                client.asign(tasks.parse_file, path=source.path, label=source.label, error_callbacks=[note])
                for source in sources[first : first + _BATCH]
            )
        )
    read = await client.aswarm(
        tasks=members,
        task_name="read-files",
        config=SwarmConfig(max_concurrency=concurrency),
        is_swarm_closed=True,
    )
    rank = await client.asign(tasks.rank_files, requested=len(sources))
    render = await client.asign(tasks.render_report, folder=str(folder), run=run)
    write = await client.asign(tasks.write_report, folder=str(folder))
    chain = await client.achain([read, rank, render], name="source-report", success=write)
    return DemoFlow(chain=chain, read=read, rank=rank, render=render)
