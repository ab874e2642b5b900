"""Hatchet keeps the contract of backends."""

from __future__ import annotations

import sys

import pytest
from hatchet_sdk import Context

from mageflow.testing.contracts import BackendContracts, Subject
from tests.hatchet.process import Address
from tests.hatchet.subjects import SLOTS, call, make_client, serve

pytestmark = [pytest.mark.timeout(300), pytest.mark.servers]


class TestHatchet(BackendContracts):
    """The suite, on one engine for the session."""

    @pytest.fixture
    def subject(self, hatchet_environment: Address | None) -> Subject:
        """Clients of the engine."""
        return Subject(
            make_client=make_client,
            call=call,
            worker=[sys.executable, "-m", "tests.hatchet.worker"],
            serve=serve,
            restart=None if hatchet_environment is None else hatchet_environment.restart,
            context=Context,
            priority_option="priority",
            slots=SLOTS,
            lasting_threads=["_poll_wrapper"],  # of gRPC, for all its asynchronous channels
        )
