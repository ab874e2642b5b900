"""The lease of a worker: a thread of its own, so that a blocked event loop does not lose it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import cast

import redis
from redis.exceptions import NoScriptError

from mageflow.store.keys import Keys
from mageflow.store.link import RedisSource, open_blocking
from mageflow.store.scripts import BEAT, LEASE

logger = logging.getLogger("mageflow.beat")

INTERVAL = 0.5
"""Seconds between two beats."""
_CHUNK = 400
"""Ids and numbers in one call."""


class Beat:
    """Tells Redis twice a second that this worker and its runs live, and learns which of them are to stop.

    `on_stop` is called in the thread, with the id and number of a run.
    """

    def __init__(self, source: RedisSource, keys: Keys, worker: str, on_stop: Callable[[str, int], None]) -> None:
        self._client = open_blocking(source, timeout=LEASE / 2)
        self._keys = keys
        self._worker = worker
        self._on_stop = on_stop
        self._runs: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mageflow-beat", daemon=True)

    def add(self, identifier: str, run: int) -> None:
        """From now on this run lives here."""
        with self._lock:
            self._runs.add((identifier, run))

    def remove(self, identifier: str, run: int) -> None:
        """This run is over."""
        with self._lock:
            self._runs.discard((identifier, run))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connection; runs that are left lapse after their lease."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                for identifier, run in self._beat():
                    self._on_stop(identifier, run)
            except (redis.RedisError, OSError) as error:
                logger.warning("worker %s could not renew its lease: %s", self._worker, error)

    def _beat(self) -> list[tuple[str, int]]:
        """Return the runs to stop."""
        with self._lock:
            runs = list(self._runs)
        flat = [str(value) for run in runs for value in run]
        stop: list[bytes] = []
        for start in range(0, max(len(flat), 1), _CHUNK):
            stop += self._call(flat[start : start + _CHUNK])
        return [(identifier.decode(), int(run)) for identifier, run in zip(stop[::2], stop[1::2], strict=True)]

    def _call(self, flat: list[str]) -> list[bytes]:
        arguments = (self._keys.outbox, "", "", self._worker, *flat)
        try:
            reply = self._client.evalsha(BEAT.sha, 1, *arguments)
        except NoScriptError:
            self._client.script_load(BEAT.source)
            reply = self._client.evalsha(BEAT.sha, 1, *arguments)
        return cast("list[bytes]", reply)
