"""Flows under chaos: workers killed, the server killed and stopped, deliveries doubled, clocks wrong, random steering.

The seed is printed; `MAGEFLOW_CHAOS_SEED=<seed>` gives it. `MAGEFLOW_CHAOS_TASKS` and `MAGEFLOW_CHAOS_SECONDS` make the
long version: so many tasks, started over so many seconds.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.audit import audit
from tests.chaos.chaos import EVERYTHING, Kind, Plan, run_chaos

pytestmark = pytest.mark.long
_SECONDS = float(os.environ.get("MAGEFLOW_CHAOS_SECONDS", "15"))
_TASKS = int(os.environ.get("MAGEFLOW_CHAOS_TASKS", "600"))


def _plan(*kinds: Kind) -> Plan:
    seed = os.environ.get("MAGEFLOW_CHAOS_SEED") or secrets.token_hex(4)
    patience = 60 + _TASKS / 20
    return Plan(seed=seed, tasks=_TASKS, seconds=_SECONDS, kinds=frozenset(kinds), patience=patience)


async def _nothing_goes_wrong(plan: Plan, folder: Path) -> None:
    print(f"MAGEFLOW_CHAOS_SEED={plan.seed}")  # noqa: T201 - to run it again
    report = await run_chaos(plan, folder)
    print(report.summary)  # noqa: T201 - how much there was
    faults = audit(report.evidence) + report.lost_workers
    assert not faults, f"{report.summary}\n{len(faults)} faults:\n" + "\n".join(faults[:40])


@pytest.mark.timeout(_SECONDS * 3 + _TASKS / 5 + 120)
async def test_killed_workers_and_doubled_deliveries(tmp_path: Path) -> None:
    """Workers are killed every two seconds and every message comes twice: every flow ends as its plan says."""
    await _nothing_goes_wrong(_plan("workers", "double"), tmp_path)


@pytest.mark.timeout(_SECONDS * 3 + _TASKS / 5 + 120)
async def test_everything_at_once(tmp_path: Path) -> None:
    """Workers and server die, the server stops, clocks are wrong, flows are held: every flow ends as its plan says."""
    await _nothing_goes_wrong(_plan(*EVERYTHING), tmp_path)
