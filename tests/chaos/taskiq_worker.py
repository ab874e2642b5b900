"""What `taskiq worker` imports in the chaos test: a broker, and a client around it."""

from __future__ import annotations

import os
import sys
from multiprocessing.util import Finalize
from pathlib import Path

from tests.chaos.flows import Recorder, make_client, skew_clock


def _note_break() -> None:
    """Note what ends this process; TaskIQ starts another where its broker raises, as that for lists does."""
    if error := sys.exc_info()[1]:
        Recorder(Path(os.environ["CHAOS_FOLDER"])).broke(error)


Finalize(None, _note_break, exitpriority=0)
skew_clock(float(os.environ["CHAOS_SKEW"]))
broker = make_client(os.environ)._backend.manager
