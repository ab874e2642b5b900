"""The embedded default keeps the contract of backends."""

from __future__ import annotations

import pytest
from taskiq import Context

from mageflow.testing.contracts import BackendContracts, Subject, worker_command
from tests.contracts.subjects import call_taskiq, embedded


class TestEmbedded(BackendContracts):
    """The suite, on the server of the session."""

    @pytest.fixture
    def subject(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Subject:
        """Clients of the embedded default."""
        monkeypatch.setenv("REDIS_URL", redis_url)
        return Subject(
            make_client=embedded,
            call=call_taskiq,
            worker=worker_command("tests.contracts.subjects:embedded"),
            context=Context,
        )
