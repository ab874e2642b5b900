"""A started flow, as its caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from mageflow.errors import FlowCanceledError, FlowFailedError, SignatureNotFoundError
from mageflow.flow.ids import key_of
from mageflow.flow.payload import load
from mageflow.flow.status import Status

if TYPE_CHECKING:
    from mageflow.verbs import Verbs

Out = TypeVar("Out")


class FlowHandle(Generic[Out]):
    """A started flow: wait for its result, ask for its status."""

    def __init__(self, client: Verbs, identifier: str) -> None:
        self._client = client
        self._id = identifier
        self.key = key_of(client.config.namespace, identifier)

    async def status(self) -> Status:
        """Return the effective status. One round trip.

        Raises:
            SignatureNotFoundError: the record is gone: it was kept `done_ttl` after the end.
        """
        record = await self._client.read(self._id)
        return record.status

    async def result(self, timeout: float | None = None) -> Out:  # noqa: ASYNC109 - the flow goes on: not a cancel scope
        """Wait for the end and return the result; a swarm's is the list of its members' results.

        Args:
            timeout: seconds; the flow goes on when they are over.

        Raises:
            FlowFailedError: it failed; carries the original error.
            FlowCanceledError: it was canceled.
            ResultTimeoutError: not within `timeout`.
            SignatureNotFoundError: the record is gone.
        """
        record = await self._client.wait(self._id, timeout)
        if record is None:
            raise SignatureNotFoundError(self.key)
        if record.status is Status.CANCELED:
            raise FlowCanceledError(self.key, record.fields.get("re", "canceled"))
        if record.status is Status.FAILED:
            error = await self._client.error_of(self._id)
            failed = await self._client.failed_key_of(self._id)
            raise FlowFailedError(self.key, error["type"], error["message"], error["traceback"], failed)
        return load(await self._client.result_of(self._id), self.key)
