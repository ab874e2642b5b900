"""A worker process of the suite of backends; its listener process imports this module too, and needs nothing of it."""

from __future__ import annotations

if __name__ == "__main__":
    from mageflow.testing.contracts import worker_client
    from tests.hatchet.subjects import make_client

    worker_client(make_client).worker("process", slots=100).start()
