"""Flows under chaos: whatever can die or stop does, deliveries come twice, flows are held and canceled at random.

The seed is printed; `MAGEFLOW_CHAOS_SEED=<seed>` gives it. `MAGEFLOW_CHAOS_TASKS` and `MAGEFLOW_CHAOS_SECONDS` make the
long version: so many tasks, started over so many seconds.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.audit import Audit, audit
from tests.chaos.chaos import EVERYTHING, Kind, Plan, run_chaos
from tests.chaos.evidence import Evidence

pytestmark = pytest.mark.long
_SECONDS = float(os.environ.get("MAGEFLOW_CHAOS_SECONDS", "15"))
_TASKS = int(os.environ.get("MAGEFLOW_CHAOS_TASKS", "500"))
_PATIENCE = 60 + _TASKS / 20
_TIMEOUT = _SECONDS * 2 + _PATIENCE * 4 + 60


def _plan(*kinds: Kind) -> Plan:
    seed = os.environ.get("MAGEFLOW_CHAOS_SEED") or secrets.token_hex(4)
    return Plan(seed=seed, tasks=_TASKS, seconds=_SECONDS, kinds=frozenset(kinds), patience=_PATIENCE)


async def _nothing_goes_wrong(plan: Plan, folder: Path) -> Evidence:
    print(f"MAGEFLOW_CHAOS_SEED={plan.seed}", flush=True)  # noqa: T201 - to run it again
    report = await run_chaos(plan, folder)
    print(report.summary, flush=True)  # noqa: T201 - how much there was
    faults = audit(report.evidence) + report.lost_workers
    assert not faults, f"{report.summary}\n{len(faults)} faults:\n" + "\n".join(faults[:40])
    return report.evidence


@pytest.mark.timeout(_TIMEOUT)
async def test_killed_workers_and_doubled_deliveries(tmp_path: Path) -> None:
    """Every two seconds a worker is killed, others leave, every message comes twice: all ends, the last soon again."""
    evidence = await _nothing_goes_wrong(_plan("workers", "leave", "double"), tmp_path)
    seconds = [waited for _, waited in Audit(evidence).recoveries()]
    print(f"{len(seconds)} runs began again, the last after {max(seconds, default=0):.1f} s")  # noqa: T201
    assert seconds


@pytest.mark.timeout(_TIMEOUT)
async def test_everything_at_once(tmp_path: Path) -> None:
    """Workers and server die, stop and leave, clocks are wrong, flows are held and canceled: all ends as it must."""
    await _nothing_goes_wrong(_plan(*EVERYTHING), tmp_path)
