"""The suite can fail: each way of breaking the contract fails the tests that are there for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_WHOLE = "test_a_task_runs_once"
_FAILS = {
    "Loses": {"test_many_at_once": r"it waits on Wait\(kind='member'.*the tasks noted \["},
    "RunsAnyway": {"test_delivered_again_while_it_runs": r"\['first started', 'first started'"},
    "Hurries": {"test_worker_ends_while_tasks_run": r"Status\.FAILED"},
    "EndsEachAttempt": {"test_retried_until_it_succeeds": "f fails for the 1. time"},
    "HearsExceptionsOnly": {"test_whatever_a_task_raises[odd-CancelledError]": r"it waits on Wait\(kind='run'"},
    "Tidies": {"test_message_comes_unchanged": r"\{'none': None\}"},
}


@pytest.mark.timeout(150)
def test_broken_backends_fail() -> None:
    """Six backends that each break one rule fail what is there for it, and what was found is in the message."""
    passes = {f"{name}::{_WHOLE}" for name in _FAILS}
    fails = {f"{name}::{test}": found for name, tests in _FAILS.items() for test, found in tests.items()}
    options = [
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-rA",
        "-vv",
        "--asyncio-mode=strict",
        "--tb=short",
        "--timeout=60",
    ]
    nodes = [f"{_HERE / 'broken.py'}::Test{case}" for case in sorted(passes | {*fails})]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *nodes],
        env={**os.environ, "MAGEFLOW_TEST_DEADLINE": "3"},
        cwd=_HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    outcomes = set(re.findall(r"^(FAILED|PASSED|ERROR) \S+::Test(\S+::\S+)", finished.stdout, re.MULTILINE))
    expected = {*(("PASSED", case) for case in passes), *(("FAILED", case) for case in fails)}
    assert {outcome for outcome in outcomes if outcome[0] != "ERROR"} == expected, finished.stdout
    assert [case for case, found in fails.items() if not re.search(found, finished.stdout)] == [], finished.stdout
