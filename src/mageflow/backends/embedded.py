"""The default: TaskIQ's stream broker on the flows' own Redis, with a receiver in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError
from taskiq import AsyncBroker
from taskiq.acks import AckableMessage
from taskiq.message import BrokerMessage
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from typing_extensions import override

from mageflow.backends.base import Address, Submission
from mageflow.backends.taskiq_delivery import KEY_LABEL
from mageflow.backends.taskiq_redis import StreamBackend

logger = logging.getLogger("mageflow.embedded")

_TIDY_EVERY = 5.0
_CLAIM_EVERY = 60.0
_ACK_WITHIN = 0.01
_Entry = tuple[bytes, dict[bytes, bytes]]
_RESULTS_KEPT = 3600
_ANY_URL = "redis://"


class FlowStreamBroker(RedisStreamBroker):
    """TaskIQ's stream broker with a stream for each task, so that a worker takes only what it has the function for.

    What it sends while the client is open rides on the pipeline of the flows. A flow's message that finds the receiver
    of this process idle is handed to it and never leaves: the row of the outbox stands for it until the task starts.
    """

    def __init__(self, queue: str) -> None:
        super().__init__(_ANY_URL, queue_name=queue, consumer_group_name=queue)
        self.address: Address | None = None
        """The flows' Redis while the client is open."""
        self._handed: asyncio.Future[BrokerMessage] | None = None
        """What the receiver waits on while nothing is there for it."""
        self._acks: dict[str, list[str]] = {}
        self._acknowledging: set[asyncio.Task[None]] = set()

    def stream_of(self, task_name: str) -> str:
        """Return the stream of a task."""
        return f"{self.queue_name}:{task_name}"

    @property
    def streams(self) -> dict[str, str]:
        """The streams of the tasks that are registered here, by task name."""
        return {name: self.stream_of(name) for name in self.get_all_tasks()}

    @override
    async def kick(self, message: BrokerMessage) -> None:
        if KEY_LABEL not in message.labels or not self._hand_over(message):
            await self._add(message)

    def _hand_over(self, message: BrokerMessage) -> bool:
        """Give a message to the receiver of this loop, if that waits and has the task."""
        handed = self._handed
        if handed is None or handed.get_loop() is not asyncio.get_running_loop():
            return False
        if message.task_name not in self.get_all_tasks():
            return False
        self._handed = None
        handed.set_result(message)
        return True

    async def _add(self, message: BrokerMessage) -> None:
        command = ("XADD", self.stream_of(message.task_name), "*", "data", message.message)
        if self.address is not None:
            await self.address.send(*command)
            return
        async with Redis(connection_pool=self.connection_pool) as redis:
            await redis.execute_command(*command)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs

    @override
    async def startup(self) -> None:
        await AsyncBroker.startup(self)

    @override
    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield deliveries; those that a dead worker held are claimed once a minute, not after each read."""
        declared: set[str] = set()
        claim_at, loop = 0.0, asyncio.get_running_loop()
        group, name = self.consumer_group_name, self.consumer_name
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                for stream in {*self.streams.values()} - declared:
                    await self._declare(redis, stream)
                    declared.add(stream)
                if not declared:
                    await asyncio.sleep(self.block / 1000)
                    continue
                wanted: dict[Any, Any] = dict.fromkeys(declared, ">")
                reading = asyncio.ensure_future(
                    redis.xreadgroup(group, name, wanted, count=self.count, block=self.block)
                )
                async with contextlib.aclosing(self._handed_until(reading)) as handed:
                    async for message in handed:
                        yield message
                for stream, entries in _read(reading.result()):
                    for entry in entries:
                        yield self._ackable(stream, entry)
                if loop.time() < claim_at:
                    continue
                claim_at = loop.time() + _CLAIM_EVERY
                for stream in declared:
                    idle = self.idle_timeout
                    claimed = await redis.xautoclaim(stream, group, name, min_idle_time=idle, count=self.count)
                    for entry in cast("list[_Entry]", claimed[1]):
                        yield self._ackable(stream, entry)

    async def _handed_until(self, reading: asyncio.Future[Any]) -> AsyncGenerator[AckableMessage, None]:
        """Yield what is handed over while a read waits; what could not be yielded any more goes to its stream."""
        handed = None
        try:
            while not reading.done():
                handed = self._handed = asyncio.get_running_loop().create_future()
                await asyncio.wait([reading, handed], return_when=asyncio.FIRST_COMPLETED)
                self._handed = None
                if handed.done():
                    message, handed = handed.result(), None
                    yield AckableMessage(data=message.message, ack=_nothing)
        finally:
            self._handed = None
            reading.cancel()
            await asyncio.wait([reading])
            if handed is not None and handed.done():
                await self._add(handed.result())

    async def _declare(self, redis: Redis, stream: str) -> None:
        try:
            await redis.xgroup_create(stream, self.consumer_group_name, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _ackable(self, stream: str, entry: _Entry) -> AckableMessage:
        identifier, fields = entry
        return AckableMessage(data=fields[b"data"], ack=self._ack_generator(identifier.decode(), stream))

    @override
    def _ack_generator(self, id: str, queue_name: str) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            if (ids := self._acks.get(queue_name)) is not None:
                ids.append(id)
                return
            self._acks[queue_name] = [id]
            task = asyncio.create_task(self._acknowledge(queue_name), name="mageflow-ack")
            self._acknowledging.add(task)
            task.add_done_callback(self._acknowledging.discard)

        return acknowledge

    async def _acknowledge(self, stream: str) -> None:
        """Acknowledge what ends until the next command leaves, 10 ms at most; meanwhile it may be delivered again."""
        group, ids = self.consumer_group_name, self._acks[stream]

        def command() -> tuple[Any, ...]:
            self._acks.pop(stream, None)
            return ("XACK", stream, group, *ids)

        try:
            if self.address is None:
                async with Redis(connection_pool=self.connection_pool) as redis:
                    await redis.execute_command(*command())  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
            else:
                await self.address.ride(command, _ACK_WITHIN)
        except (RedisError, OSError) as error:
            if self._acks.get(stream) is ids:  # it never left
                del self._acks[stream]
            logger.warning("%d deliveries were not acknowledged, they may come again: %s", len(ids), error)

    async def flush(self) -> None:
        """Wait until everything is acknowledged."""
        await asyncio.gather(*self._acknowledging)


async def _nothing() -> None:
    """Acknowledge what was in no stream."""


def _read(reply: Any) -> list[tuple[str, list[_Entry]]]:
    """Return the entries by stream, whichever protocol the reply came by."""
    if not reply:
        return []
    streams = reply.items() if isinstance(reply, dict) else reply  # pyright: ignore[reportUnknownVariableType] - untyped
    found: list[tuple[str, list[_Entry]]] = []
    for stream, pages in cast("Iterable[tuple[bytes, Any]]", streams):
        entries = pages[0] if pages and isinstance(pages[0], list) else pages
        found.append((stream.decode(), entries))
    return found


def make_broker(queue: str) -> FlowStreamBroker:
    """Return a stream broker that is not connected to anything yet."""
    broker = FlowStreamBroker(queue)
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
        _ANY_URL, result_ex_time=_RESULTS_KEPT, serializer=JSONSerializer(), prefix_str=f"{queue}:result"
    )
    return broker.with_result_backend(results)


class EmbeddedBackend(StreamBackend):
    """Runs tasks in this process; other processes of the directory share the queue."""

    def __init__(self, queue: str, namespace: str) -> None:
        self._flows = make_broker(queue)
        super().__init__(self._flows, namespace)
        self._tidying: asyncio.Task[None] | None = None

    @override
    def connect(self, address: Address) -> None:
        self._flows.connection_pool = self._pool(address)
        self._flows.address = address
        results = cast("RedisAsyncResultBackend[Any]", self._flows.result_backend)
        results.redis_pool = self._pool(address)

    def _pool(self, address: Address) -> BlockingConnectionPool:
        settings: dict[str, Any] = {"socket_timeout": None, **address.settings}
        return BlockingConnectionPool(connection_class=address.connection_class, **settings)

    @override
    async def kick(self, messages: Sequence[BrokerMessage]) -> Sequence[Submission]:
        return await asyncio.gather(*(self.kick_one(message) for message in messages))

    @override
    def queue_of(self, task_name: str, labels: Mapping[str, Any]) -> str:
        return self._flows.stream_of(task_name)

    @override
    async def open(self, *, serve: int = 0) -> None:
        await super().open(serve=serve)
        if serve and self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy(), name="mageflow-tidy")

    async def _tidy(self) -> None:
        """Drop messages that every worker is through with, and consumers that are gone: one stream at a time."""
        turn = 0
        while True:
            await asyncio.sleep(_TIDY_EVERY)
            streams = list(self._flows.streams.values())
            if not streams:
                continue
            turn = (turn + 1) % len(streams)
            try:
                await self._trim(streams[turn], self._flows.consumer_group_name)
            except (RedisError, OSError) as error:
                logger.debug("stream %s was not tidied: %s", streams[turn], error)

    async def _trim(self, stream: str, group: str) -> None:
        redis = self.redis()
        pending = await redis.xpending(stream, group)
        [state] = await redis.xinfo_groups(stream)
        await redis.xtrim(stream, minid=pending["min"] or state["last-delivered-id"], approximate=True)
        for consumer in await redis.xinfo_consumers(stream, group):
            if consumer["pending"] == 0 and consumer["idle"] > self._flows.idle_timeout:
                await redis.xgroup_delconsumer(stream, group, consumer["name"])

    @override
    async def stop_listening(self) -> None:
        await super().stop_listening()
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
            self._tidying = None
        await self._flows.flush()

    @override
    async def close(self) -> None:
        await super().close()
        self._flows.address = None
