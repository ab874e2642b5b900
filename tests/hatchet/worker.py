"""A worker process of the suite of backends."""

from __future__ import annotations

from mageflow.testing.contracts import worker_client
from tests.hatchet.subjects import make_client

if __name__ == "__main__":
    worker_client(make_client).worker("process", slots=100).start()
