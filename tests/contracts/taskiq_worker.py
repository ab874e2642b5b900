"""What `taskiq worker` imports in the suite: a broker, and a client around it."""

from __future__ import annotations

import os

from mageflow.testing.contracts import worker_client
from tests.contracts.taskiq_subjects import BROKERS, KIND

broker = worker_client(BROKERS[os.environ[KIND]])._backend.manager
