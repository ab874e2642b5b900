"""The backend of the documentation keeps the contract."""

from __future__ import annotations

import pytest

from tests.contracts import documented


class TestDocumented(documented.TestQueue):
    """The documentation's own test class, on the server of the session."""

    @pytest.fixture(autouse=True)
    def reached(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server is where the environment says."""
        monkeypatch.setenv("REDIS_URL", redis_url)
