"""What the texts take for granted: tasks of any name that keep the messages they got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mageflow import Mageflow
from tests.eventually import eventually

Message = dict[str, Any]
Result = Callable[[Any], Any] | str | int | list[Any] | Message | None

Serve = Callable[[Mageflow], AbstractAsyncContextManager[object]]


def _serve_here(client: Mageflow) -> AbstractAsyncContextManager[object]:
    return client.worker()


class Desk:
    """Makes tasks that keep their messages, and lets the test wait for them."""

    def __init__(self, client: Mageflow, serve: Serve = _serve_here) -> None:
        self.client = client
        self._serve = serve
        self.got: dict[str, list[Any]] = {}
        self.running = 0
        self.peak = 0

    def task(
        self,
        name: str,
        *,
        model: Any = None,
        result: Result = None,
        fails: bool | Callable[[Any], bool] = False,
        pause: float = 0.0,
    ) -> Any:
        """Register a task: it returns `result`, or raises; `fails` may look at the message."""

        async def work(message: Message) -> Any:
            self.got.setdefault(name, []).append(message)
            self.running += 1
            self.peak = max(self.peak, self.running)
            try:
                if pause:
                    await asyncio.sleep(pause)
            finally:
                self.running -= 1
            if fails(message) if callable(fails) else fails:
                raise ValueError(name)
            return result(message) if callable(result) else result

        work.__annotations__ = {"message": model or Message}
        options = {} if model is None else {"input_validator": model}
        return self.client.task(name=name, **options)(work)

    def tasks(self, *names: str, result: Result = None) -> list[Any]:
        """Register a task for each name."""
        return [self.task(name, result=result) for name in names]

    async def until(self, name: str, count: int = 1) -> None:
        """Wait until a task got so many messages."""
        await eventually(lambda: len(self.got.get(name, [])) >= count, f"{name} ran {count} times")

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        """Run a worker of the client; tasks are declared before."""
        async with self._serve(self.client):
            yield
