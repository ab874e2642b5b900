"""Flows under chaos: whatever can die or stop does, deliveries come twice, flows are held and canceled at random.

The seed is printed; `MAGEFLOW_CHAOS_SEED=<seed>` gives it. `MAGEFLOW_CHAOS_TASKS` and `MAGEFLOW_CHAOS_SECONDS` make the
long version: so many tasks, started over so many seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.audit import Audit, audit
from tests.chaos.chaos import EVERYTHING, Kind, Plan, Restarted, run_chaos
from tests.chaos.crew import Crew
from tests.chaos.evidence import Evidence
from tests.chaos.flows import DURABLE, GRAPH, HATCHET
from tests.eventually import eventually
from tests.hatchet.process import Address, engine_process
from tests.hatchet.proxy import Proxy
from tests.rabbitmq import RabbitMQ

_SECONDS = float(os.environ.get("MAGEFLOW_CHAOS_SECONDS", "15"))
_TASKS = int(os.environ.get("MAGEFLOW_CHAOS_TASKS", "500"))
_PATIENCE = 60 + _TASKS / 20
_TIMEOUT = _SECONDS * 2 + _PATIENCE * 4 + 60


def _plan(kinds: Iterable[Kind], broker: str = "") -> Plan:
    seed = os.environ.get("MAGEFLOW_CHAOS_SEED") or secrets.token_hex(4)
    tasks = _TASKS if not broker else _TASKS // 2
    return Plan(seed=seed, tasks=tasks, seconds=_SECONDS, kinds=frozenset(kinds), broker=broker, patience=_PATIENCE)


async def _nothing_goes_wrong(plan: Plan, folder: Path, broker: Restarted | None = None) -> Evidence:
    print(f"MAGEFLOW_CHAOS_SEED={plan.seed}", flush=True)  # noqa: T201 - to run it again
    report = await run_chaos(plan, folder, broker)
    print(report.summary, flush=True)  # noqa: T201 - how much there was
    faults = audit(report.evidence) + report.lost_workers
    assert not faults, f"{report.summary}\n{len(faults)} faults:\n" + "\n".join(faults[:40])
    return report.evidence


@pytest.mark.long
@pytest.mark.timeout(_TIMEOUT)
async def test_killed_workers_and_doubled_deliveries(tmp_path: Path) -> None:
    """Every two seconds a worker is killed, others leave, every message comes twice: all ends, the last soon again."""
    evidence = await _nothing_goes_wrong(_plan(["workers", "leave", "double"]), tmp_path)
    seconds = [waited for _, waited in Audit(evidence).recoveries()]
    print(f"{len(seconds)} runs began again, the last after {max(seconds, default=0):.1f} s")  # noqa: T201
    assert seconds


@pytest.mark.long
@pytest.mark.timeout(_TIMEOUT)
async def test_everything_at_once(tmp_path: Path) -> None:
    """Workers and server die, stop and leave, clocks are wrong, flows are held and canceled: all ends as it must."""
    await _nothing_goes_wrong(_plan(EVERYTHING), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(_TIMEOUT)
@pytest.mark.parametrize("broker", ["stream", "queue"])
async def test_everything_at_once_on_a_broker_of_redis(tmp_path: Path, broker: str) -> None:
    """So it is with TaskIQ's brokers on Redis, and workers of its own command."""
    await _nothing_goes_wrong(_plan(EVERYTHING, broker), tmp_path)


@pytest.mark.servers
@pytest.mark.timeout(_TIMEOUT)
async def test_everything_at_once_on_rabbitmq(tmp_path: Path, rabbitmq_server: RabbitMQ) -> None:
    """So it is on RabbitMQ, which is stopped and started again as well."""
    await _nothing_goes_wrong(_plan({*EVERYTHING, "broker"}, "rabbitmq"), tmp_path, rabbitmq_server)


@pytest.mark.long
@pytest.mark.timeout(_TIMEOUT)
async def test_killed_workers_and_restarts_on_hatchet(tmp_path: Path) -> None:
    """Workers of Hatchet are killed, its engine's connections all break, flows are held and canceled: all ends."""
    plan = replace(_plan(["workers", "steer", "cancel", "broker"], HATCHET), pace=4.0)
    with engine_at_hand() as engine:
        await _nothing_goes_wrong(plan, tmp_path, engine)


@pytest.mark.long
@pytest.mark.timeout(_TIMEOUT)
async def test_everything_at_once_on_hatchet_for_long(tmp_path: Path) -> None:
    """So it is on Hatchet, with durable tasks and workflows, while the connections of its engine all break as well."""
    # A wrong clock of Python alone, which is what can be made here, breaks the deadlines of gRPC.
    plan = replace(_plan({*EVERYTHING - {"skew"}, "broker"}, HATCHET), pace=4.0, more=(GRAPH, DURABLE))
    with engine_at_hand() as engine:
        await _nothing_goes_wrong(plan, tmp_path, engine)


@pytest.mark.long
async def test_worker_that_ends_by_itself(tmp_path: Path) -> None:
    """A worker that ends unasked is replaced, and reported unless it never reached its broker."""
    crew = Crew(folder=tmp_path, environment={"CHAOS_BROKER": HATCHET}, random=random.Random(0))
    with crew.at_work(1):
        [first] = crew.living
        await eventually(lambda: first.poll() is not None, "it ended: it was told nothing", 30)
        crew.output(first.pid).write_text("StatusCode.UNAVAILABLE")
        crew.replace_lost()
        assert crew.failures == []
        [second] = crew.living
        await eventually(lambda: second.poll() is not None, "so did the next", 30)
        crew.replace_lost()
        assert len(crew.living) == len(crew.failures) == 1


@contextlib.contextmanager
def engine_at_hand() -> Generator[Restarted]:
    """A real engine behind a proxy where the environment names one, else the engine for tests."""
    if os.environ.get("HATCHET_CLIENT_TOKEN"):
        with contextlib.closing(Proxy(os.environ)) as proxy:
            yield proxy
        return
    with engine_process() as address:
        yield Engine(address)


class Engine:
    """Hatchet's engine for tests; it keeps its state when it is restarted."""

    def __init__(self, address: Address) -> None:
        self.environment = address.environment
        self._address = address

    def stop(self) -> None:
        """Nothing: it is started again with the same call."""

    def start(self) -> None:
        """Break every connection, be away for a second."""
        asyncio.run(self._address.restart())
