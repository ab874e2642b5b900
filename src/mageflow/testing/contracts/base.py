"""What every theme of the suite shares: the fixture that implementers give, and those that are made of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mageflow import MageflowConfig, TTLConfig
from mageflow.testing.contracts.stage import Stage, new_namespace
from mageflow.testing.contracts.subject import Subject

_KEPT = 30
"""Seconds that ended flows of the suite are kept."""

MakeStage = Callable[..., AbstractAsyncContextManager[Stage]]


class Contract:
    """The base of the themes. Whoever tests a backend overrides the fixture `subject`; the rest is made of it."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def subject(self) -> Subject:
        """The backend under test; to be overridden. Made anew for each test, it may clean up behind a `yield`."""
        raise NotImplementedError

    @pytest.fixture
    def namespace(self) -> str:
        """The namespace of the test; unused before."""
        return new_namespace()

    @pytest.fixture
    def make_stage(self, subject: Subject, namespace: str, tmp_path: Path) -> MakeStage:
        """A function that opens the stage of a test with settings of its own, once."""

        def make(*, serving: bool = True, **settings: Any) -> AbstractAsyncContextManager[Stage]:
            config = MageflowConfig(namespace=namespace, ttl=TTLConfig(done_ttl=_KEPT)).model_copy(update=settings)
            return Stage(subject, config, tmp_path).opened(serving=serving)

        return make

    @pytest_asyncio.fixture
    async def stage(self, make_stage: MakeStage) -> AsyncIterator[Stage]:
        """A client with the tasks of the suite and a worker."""
        async with make_stage() as stage:
            yield stage

    @pytest_asyncio.fixture
    async def idle(self, make_stage: MakeStage) -> AsyncIterator[Stage]:
        """A client with the tasks of the suite and no worker: nothing runs."""
        async with make_stage(serving=False) as stage:
            yield stage
