"""The clients of this process: the one module with state of its own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, cast

from mageflow.errors import AmbiguousClientError
from mageflow.run.context import current_run

if TYPE_CHECKING:
    from mageflow.verbs import Verbs

_clients: weakref.WeakSet[Verbs] = weakref.WeakSet()


def add_client(client: Verbs) -> None:
    """Make a client known to the module functions."""
    _clients.add(client)


def find_client() -> Verbs:
    """Return the client of the running task, else the only one.

    Raises:
        AmbiguousClientError: there is none, or there are several.
    """
    run = current_run.get()
    if run is not None:
        return cast("Verbs", run.client)
    clients = list(_clients)
    if len(clients) != 1:
        raise AmbiguousClientError(sorted(client.config.namespace for client in clients))
    return clients[0]
