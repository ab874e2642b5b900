"""The default: TaskIQ's stream broker on the flows' own Redis, with a receiver in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError
from taskiq.acks import AcknowledgeType
from taskiq.message import BrokerMessage
from taskiq.receiver import Receiver
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from typing_extensions import override

from mageflow.backends.base import ACCEPTED, Address, Capabilities, Submission, Verdict
from mageflow.backends.taskiq import TaskiqBackend
from mageflow.flow.command import Dispatch

logger = logging.getLogger("mageflow.embedded")

_TIDY_EVERY = 10.0
_RESULTS_KEPT = 3600
_ANY_URL = "redis://"


def make_broker(queue: str) -> RedisStreamBroker:
    """Return a stream broker that is not connected to anything yet."""
    broker = RedisStreamBroker(
        _ANY_URL, queue_name=queue, consumer_group_name=queue, consumer_id="0", unacknowledged_lock_timeout=30.0
    )
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
        _ANY_URL, result_ex_time=_RESULTS_KEPT, serializer=JSONSerializer(), prefix_str=f"{queue}:result"
    )
    return broker.with_result_backend(results)


class EmbeddedBackend(TaskiqBackend):
    """Runs tasks in this process; other processes of the directory share the queue."""

    capabilities = Capabilities(bulk=500, payload_limit=None, start_timeout=3.0)

    def __init__(self, queue: str) -> None:
        self._stream = make_broker(queue)
        super().__init__(self._stream)
        self._finish: asyncio.Event | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @override
    def connect(self, address: Address) -> None:
        self._stream.connection_pool = self._pool(address)
        results = cast("RedisAsyncResultBackend[Any]", self._stream.result_backend)
        results.redis_pool = self._pool(address)

    def _pool(self, address: Address) -> BlockingConnectionPool:
        settings: dict[str, Any] = {"socket_timeout": None, **address.settings}
        return BlockingConnectionPool(connection_class=address.connection_class, **settings)

    def _redis(self) -> Redis:
        return Redis(connection_pool=self._stream.connection_pool)

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        answers: list[Submission] = []
        messages: list[BrokerMessage] = []
        for dispatch in batch:
            try:
                messages.append(await self.message_of(dispatch))
                answers.append(ACCEPTED)
            except Exception as error:  # noqa: BLE001 - a user's middleware may raise anything: this one is refused
                answers.append(Submission(verdict=Verdict.REFUSED, reason=repr(error)))
        try:
            await self._append(messages)
        except (RedisError, OSError) as error:
            lost = Submission(verdict=Verdict.RETRY, reason=repr(error))
            return [lost if answer is ACCEPTED else answer for answer in answers]
        return answers

    async def _append(self, messages: Sequence[BrokerMessage]) -> None:
        pipeline = self._redis().pipeline(transaction=False)
        for message in messages:
            pipeline.xadd(self._stream.queue_name, {b"data": message.message})
        await pipeline.execute()

    @override
    async def is_empty(self) -> bool:
        try:
            groups = await self._redis().xinfo_groups(self._stream.queue_name)
        except RedisError:
            return False
        newest = await self._redis().xrevrange(self._stream.queue_name, count=1)
        delivered = {group["last-delivered-id"] for group in groups}
        return not newest or {newest[0][0]} == delivered

    @override
    async def open(self, *, serve: int = 0) -> None:
        await super().open(serve=serve)
        if not serve:
            return
        self._finish = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=serve, thread_name_prefix="mageflow-task")
        receiver = Receiver(
            self._stream,
            executor=self._threads,
            max_async_tasks=serve,
            run_startup=False,
            ack_type=AcknowledgeType.WHEN_SAVED,
        )
        self._tasks = [
            asyncio.create_task(self._listen(receiver, self._finish), name="mageflow-receiver"),
            asyncio.create_task(self._tidy(), name="mageflow-tidy"),
        ]

    async def _listen(self, receiver: Receiver, finish: asyncio.Event) -> None:
        """Take deliveries until told to finish, over the failures of the connection."""
        while not finish.is_set():
            try:
                await receiver.listen(finish)
            except Exception as error:  # noqa: BLE001 - whatever ended it: the worker goes on, rows are offered again
                logger.warning("the queue cannot be read, trying again: %r", error)
                await asyncio.sleep(0.2)
                await self._declare_again()

    async def _declare_again(self) -> None:
        try:
            await self._redis().xgroup_create(
                self._stream.queue_name, self._stream.consumer_group_name, id="0", mkstream=True
            )
        except (RedisError, OSError):
            return

    async def _tidy(self) -> None:
        """Drop messages that every worker is through with, and consumers that are gone."""
        name, group = self._stream.queue_name, self._stream.consumer_group_name
        while True:
            await asyncio.sleep(_TIDY_EVERY)
            try:
                await self._trim(name, group)
            except (RedisError, OSError) as error:
                logger.debug("the queue was not tidied: %s", error)

    async def _trim(self, name: str, group: str) -> None:
        redis = self._redis()
        pending = await redis.xpending(name, group)
        groups = await redis.xinfo_groups(name)
        if len(groups) == 1:
            oldest = pending["min"] or groups[0]["last-delivered-id"]
            await redis.xtrim(name, minid=oldest, approximate=True)
        for consumer in await redis.xinfo_consumers(name, group):
            if consumer["pending"] == 0 and consumer["idle"] > self._stream.idle_timeout:
                await redis.xgroup_delconsumer(name, group, consumer["name"])

    @override
    async def close(self) -> None:
        if self._finish is not None:
            self._finish.set()
            listener, tidy = self._tasks
            await asyncio.gather(listener, return_exceptions=True)
            tidy.cancel()
            await asyncio.gather(tidy, return_exceptions=True)
            self._finish, self._tasks = None, []
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        await super().close()
