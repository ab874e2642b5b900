"""What `taskiq worker` imports in the chaos test: a broker, and a client around it."""

from __future__ import annotations

import os

from tests.chaos.flows import make_client, skew_clock

skew_clock(float(os.environ["CHAOS_SKEW"]))
broker = make_client(os.environ)._backend.manager
