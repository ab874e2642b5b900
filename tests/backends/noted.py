"""A middleware of a team's own."""

from __future__ import annotations

from typing import Any

from taskiq import (
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from typing_extensions import override


class Noted(TaskiqMiddleware):
    """Notes what it sees, and hides what messages carry on their way, as encryption would."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Any, Any]] = []

    @override
    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.seen.append(("sent", list(message.args), dict(message.kwargs)))
        message.args, message.kwargs = [{"hidden": message.args}], {"hidden": message.kwargs}
        return message

    @override
    async def post_send(self, message: TaskiqMessage) -> None:
        self.seen.append(("left", message.task_name, None))

    @override
    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        message.args, message.kwargs = message.args[0]["hidden"], message.kwargs["hidden"]
        self.seen.append(("received", list(message.args), dict(message.kwargs)))
        return message

    @override
    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.seen.append(("executed", list(message.args), dict(message.kwargs)))

    def of(self, event: str) -> list[tuple[Any, Any]]:
        """Return what it noted of an event."""
        return [(args, kwargs) for name, args, kwargs in self.seen if name == event]
