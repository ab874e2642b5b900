"""TaskIQ's brokers on Redis: many messages in one pipeline, and what is known of their queues."""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError
from taskiq.message import BrokerMessage
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisStreamBroker
from typing_extensions import override

from mageflow.backends.base import ACCEPTED, Capabilities, Submission, Verdict
from mageflow.backends.taskiq import TaskiqBackend

logger = logging.getLogger("mageflow.taskiq")

_Broker = ListQueueBroker | PubSubBroker | RedisStreamBroker


class RedisBackend(TaskiqBackend):
    """What the brokers on Redis share."""

    stock: type[_Broker]
    """TaskIQ's class: of a subclass that sends in its own way each message goes that way."""

    def __init__(self, broker: _Broker, namespace: str) -> None:
        super().__init__(broker, namespace)
        self._own = broker

    @override
    async def kick(self, messages: Sequence[BrokerMessage]) -> Sequence[Submission]:
        """Send all messages in one pipeline."""
        if len(messages) < 2 or type(self._own).kick is not self.stock.kick:
            return await super().kick(messages)
        pipeline = self.redis().pipeline(transaction=False)
        try:
            for message in messages:
                self.push(pipeline, self.queue_of(message.task_name, message.labels), message.message)
            replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            replies = [error] * len(messages)
        finally:
            await pipeline.aclose()
        return [
            Submission(verdict=Verdict.RETRY, reason=repr(reply)) if isinstance(reply, Exception) else ACCEPTED
            for reply in replies
        ]

    def queue_of(self, task_name: str, labels: Mapping[str, Any]) -> str:  # noqa: ARG002 - others go by the name
        """Return where the messages of a task wait."""
        return str(labels.get("queue_name") or self._own.queue_name)

    def redis(self) -> Redis:
        """Return a client on the broker's own connections."""
        pool: BlockingConnectionPool = self._own.connection_pool
        return Redis(connection_pool=pool)

    @abstractmethod
    def push(self, pipeline: Pipeline, queue: str, data: bytes) -> None:
        """Add what sends one message to a pipeline."""

    @override
    async def drained(self) -> Collection[str]:
        queues = {name: self.queue_of(name, task.labels) for name, task in self._own.get_all_tasks().items()}
        empty = {queue for queue in {*queues.values()} if await self._is_drained(queue)}
        return [name for name, queue in queues.items() if queue in empty]

    async def _is_drained(self, queue: str) -> bool:
        try:
            return await self.is_drained(queue)
        except (RedisError, OSError):
            return False

    @abstractmethod
    async def is_drained(self, queue: str) -> bool:
        """Whether every message of a queue was handed to somebody."""

    def patience(self) -> float | None:
        """Return the seconds after which a command of this broker's connections is given up; `None`: never."""
        return self._own.connection_pool.make_connection().socket_timeout


class ListBackend(RedisBackend):
    """Flows on TaskIQ's list broker: what a worker took from the list is lost with it, and brought back by its row."""

    capabilities = Capabilities(bulk=500, start_timeout=3.0)
    stock = ListQueueBroker

    @override
    def push(self, pipeline: Pipeline, queue: str, data: bytes) -> None:
        pipeline.lpush(queue, data)

    @override
    async def is_drained(self, queue: str) -> bool:
        return not await self.redis().llen(queue)

    @override
    def check_worker(self) -> None:
        seconds = self.patience()
        if seconds is not None:
            logger.warning(
                "a worker of ListQueueBroker ends when its queue is empty for %s s (a default of redis-py 8); "
                "give the broker socket_timeout=None",
                seconds,
            )


class StreamBackend(RedisBackend):
    """Flows on TaskIQ's stream broker.

    What a dead worker had taken and not begun is brought back by its row, long before the broker claims it.
    """

    capabilities = Capabilities(bulk=500, start_timeout=3.0, redelivers=True)
    stock = RedisStreamBroker

    def __init__(self, broker: RedisStreamBroker, namespace: str) -> None:
        super().__init__(broker, namespace)
        self._stream = broker
        self._grouped = {broker.queue_name, *broker.additional_streams}

    @override
    async def kick(self, messages: Sequence[BrokerMessage]) -> Sequence[Submission]:
        """Send; first make the group of a stream that this broker does not read: it would begin after its messages."""
        for queue in {self.queue_of(message.task_name, message.labels) for message in messages} - self._grouped:
            with contextlib.suppress(RedisError, OSError):
                await self.redis().xgroup_create(queue, self._stream.consumer_group_name, id="$", mkstream=True)
            self._grouped.add(queue)
        return await super().kick(messages)

    @override
    def push(self, pipeline: Pipeline, queue: str, data: bytes) -> None:
        broker = self._stream
        pipeline.xadd(queue, {b"data": data}, maxlen=broker.maxlen, approximate=broker.approximate)

    @override
    async def is_drained(self, queue: str) -> bool:
        groups: list[dict[str, Any]] = await self.redis().xinfo_groups(queue)
        newest = await self.redis().xrevrange(queue, count=1)
        return not newest or {newest[0][0]} == {group["last-delivered-id"] for group in groups}

    @override
    def check_worker(self) -> None:
        seconds = self.patience()
        if seconds is not None and seconds * 1000 <= self._stream.block:
            logger.warning(
                "a worker of RedisStreamBroker ends when its stream is empty for %s s (a default of redis-py 8); "
                "give the broker socket_timeout=None, or xread_block below it",
                seconds,
            )


class PubSubBackend(RedisBackend):
    """Flows on TaskIQ's publishing broker: each worker hears of each task, one runs it; nothing is kept for later."""

    capabilities = Capabilities(bulk=500, start_timeout=3.0)
    stock = PubSubBroker

    @override
    def push(self, pipeline: Pipeline, queue: str, data: bytes) -> None:
        pipeline.publish(queue, data)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs

    @override
    async def is_drained(self, queue: str) -> bool:
        return True
