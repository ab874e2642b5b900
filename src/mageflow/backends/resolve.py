"""Which backend serves a client: loaded when it is needed, from a fixed table."""

from __future__ import annotations

from importlib import import_module

from mageflow.backends.base import Backend

_EMBEDDED = ("mageflow.backends.embedded", "EmbeddedBackend")


def make_backend(queue: str) -> Backend:
    """Return the embedded backend with this queue."""
    module, name = _EMBEDDED
    return getattr(import_module(module), name)(queue)
