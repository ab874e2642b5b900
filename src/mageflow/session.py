"""What signatures and verbs share: the open engine of a client, writing and reading through it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mageflow.config import MageflowConfig
from mageflow.engine import Engine
from mageflow.errors import ResultTimeoutError, SignatureNotFoundError
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Json
from mageflow.flow.signature import Change
from mageflow.planner import Planner
from mageflow.run.binding import Binding, validated
from mageflow.store.codec import Record
from mageflow.store.results import Results
from mageflow.store.store import Store


class Session:
    """One client's way to its flows; `open` returns its engine, opened if need be."""

    def __init__(
        self, config: MageflowConfig, bindings: Mapping[str, Binding], open_engine: Callable[[], Awaitable[Engine]]
    ) -> None:
        self.config = config
        self._bindings = bindings
        self.open = open_engine

    def key(self, identifier: str) -> str:
        """Return the public key of an id."""
        return key_of(self.config.namespace, identifier)

    async def planner(self) -> Planner:
        """Return what turns descriptions into changes."""
        return (await self.open()).planner

    async def store(self) -> Store:
        """Return the store."""
        return (await self.open()).store

    async def results(self) -> Results:
        """Return the reader of results and errors."""
        return (await self.open()).results

    async def commit(self, changes: Sequence[Change]) -> None:
        """Write changes in one step and submit what they make ready."""
        engine = await self.open()
        answer = await engine.store.commit(changes)
        await engine.dispatch(answer.ready)

    async def read(self, identifier: str) -> Record:
        """Return a record.

        Raises:
            SignatureNotFoundError: there is none.
        """
        [record] = await (await self.store()).read([identifier])
        if record is None:
            raise SignatureNotFoundError(self.key(identifier))
        return record

    async def wait(self, identifier: str, seconds: float | None) -> Record | None:
        """Return the record once the signature has ended.

        Raises:
            ResultTimeoutError: not within `seconds`.
        """
        engine = await self.open()
        try:
            return await asyncio.wait_for(engine.waiter.wait(identifier), seconds)
        except TimeoutError as error:
            raise ResultTimeoutError(self.key(identifier), seconds or 0.0) from error

    async def check_kwargs(self, name: str, kwargs: Mapping[str, Any]) -> None:
        """Refuse bound arguments of a wrong type."""
        (await self.planner()).check_kwargs(name, kwargs)

    def check_first_message(self, record: Record, message: Json) -> None:
        """Refuse the message of a task that is started directly, where its model is known here.

        Raises:
            InvalidMessageError: names the fields.
        """
        binding = self._bindings.get(record.body.name or "")
        if binding is not None and binding.model is not None:
            validated(binding.model, message, binding.name)
