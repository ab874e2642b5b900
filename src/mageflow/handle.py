"""A started flow, as its caller holds it."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from mageflow.errors import ResultTimeoutError, SignatureNotFoundError
from mageflow.flow.checks import check_seconds
from mageflow.flow.payload import load
from mageflow.flow.status import Status
from mageflow.session import Session
from mageflow.stream import ResultStream

Out = TypeVar("Out", covariant=True)  # noqa: PLC0105 - the word of the documentation


class FlowHandle(Generic[Out]):
    """A started flow: wait for its result, ask for its status."""

    def __init__(self, session: Session, identifier: str) -> None:
        self._session = session
        self._id = identifier
        self.key = session.key(identifier)

    async def status(self) -> Status:
        """Return the effective status. One round trip.

        Raises:
            SignatureNotFoundError: the record is gone: it was kept `done_ttl` after the end.
        """
        record = await self._session.read(self._id)
        return record.status

    async def result(self, timeout: float | None = None) -> Out:  # noqa: ASYNC109 - the flow goes on: not a cancel scope
        """Wait for the end and return the result; a swarm's is the list of its members' results.

        While Redis does not answer it goes on waiting, without a time-out for ever.

        Args:
            timeout: seconds; the flow goes on when they are over.

        Raises:
            FlowFailedError: it failed; carries the original error.
            FlowCanceledError: it was canceled.
            ResultTimeoutError: not within `timeout`, also where Redis did not answer.
            SignatureNotFoundError: the record is gone.
        """
        check_seconds(timeout, "timeout")
        try:
            return await asyncio.wait_for(self._session.through_outages(self._outcome), timeout)
        except TimeoutError as error:
            raise ResultTimeoutError(self.key, timeout or 0.0) from error

    async def _outcome(self) -> Out:
        record = await self._session.wait(self._id)
        if record is None:
            raise SignatureNotFoundError(self.key)
        await self._session.check_outcome(record)
        return load(await (await self._session.results()).result(self._id), self.key)

    def results(self, start: int = 0, *, ordered: bool = True) -> ResultStream[Any]:
        """Return the results of a map, one by one as they come; see `MapSignature.results`."""
        return ResultStream(self._session, self._id, start, ordered=ordered)
