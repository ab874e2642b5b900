"""How many examples the random suites draw, and from where.

The quick ones are the same at each run, so that a change alone can make one fail, not chance. The long ones
(`pytest -m long tests/store`) are drawn anew each time; `MAGEFLOW_EXAMPLES_SEED`, which the header of the run names,
draws them again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st

from tests.store.play import Move

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
QUICK = settings(deadline=None, suppress_health_check=SLOW, database=None, print_blob=True, derandomize=True)
LONG = settings(QUICK, derandomize=False)
SEED = int(os.environ.get("MAGEFLOW_EXAMPLES_SEED") or secrets.randbelow(1 << 32))

Test = Callable[..., None]


def long(test: Test) -> Test:
    """Mark a test as long, and draw its examples from the seed of this run."""
    return pytest.mark.long(pytest.mark.timeout(3600)(seed(SEED)(test)))


def moves_of(choices: Sequence[str], *, longest: int) -> st.SearchStrategy[list[Move]]:
    """Draw moves: a verb, and the bytes that say of what and how."""
    return st.lists(st.tuples(st.sampled_from(choices), st.binary(max_size=24)), min_size=16, max_size=longest)
