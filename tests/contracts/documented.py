"""The backend that the documentation shows, as a module."""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING, Any

from tests.test_docs import ROOT, snippets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from mageflow.backends.base import Backend, Host
    from mageflow.flow.command import Dispatch
    from mageflow.testing.contracts import BackendContracts

    class Task:
        """See the page."""

        function: Callable[..., Any]
        retries: int

    class Queue:
        """See the page."""

        tasks: dict[str, Task]

        push: Callable[..., Awaitable[None]]

        def __init__(self, *, redis: Redis, name: str) -> None: ...

    class QueueBackend(Backend):
        """See the page."""

        _queue: Queue
        _host: Host

        def __init__(self, queue: Queue, namespace: str) -> None: ...
        async def run(self, job: dict[str, Any]) -> None:
            """See the page."""

        def job_of(self, dispatch: Dispatch) -> dict[str, Any]:
            """See the page."""
            ...

    class TestQueue(BackendContracts):
        """See the page."""


def _defines(code: CodeType) -> bool:
    """Whether a snippet defines something; the others use it."""
    return "client" not in code.co_names


for _code in snippets(ROOT / "docs" / "backends.md"):
    if _defines(_code):
        exec(_code, globals())  # noqa: S102 - our own documentation
