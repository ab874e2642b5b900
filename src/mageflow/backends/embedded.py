"""The default: TaskIQ's stream broker on the flows' own Redis, with a receiver in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError
from taskiq import AsyncBroker
from taskiq.acks import AckableMessage, AcknowledgeType
from taskiq.message import BrokerMessage
from taskiq.receiver import Receiver
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from typing_extensions import override

from mageflow.backends.base import Address, Capabilities, Submission
from mageflow.backends.taskiq import TaskiqBackend
from mageflow.flow.command import Dispatch

logger = logging.getLogger("mageflow.embedded")

_TIDY_EVERY = 5.0
_CLAIM_EVERY = 60.0
_PAUSE = 0.2
_ACK_AFTER = 0.01
_Entry = tuple[bytes, dict[bytes, bytes]]
_RESULTS_KEPT = 3600
_ANY_URL = "redis://"


class FlowStreamBroker(RedisStreamBroker):
    """TaskIQ's stream broker with a stream for each task, so that a worker takes only what it has the function for.

    What it sends while the client is open rides on the pipeline of the flows.
    """

    def __init__(self, queue: str) -> None:
        super().__init__(_ANY_URL, queue_name=queue, consumer_group_name=queue)
        self.send: Callable[..., Awaitable[Any]] | None = None
        self._acks: dict[str, list[str]] = {}
        self._acknowledging: asyncio.Task[None] | None = None

    def stream_of(self, task_name: str) -> str:
        """Return the stream of a task."""
        return f"{self.queue_name}:{task_name}"

    @property
    def streams(self) -> dict[str, str]:
        """The streams of the tasks that are registered here, by task name."""
        return {name: self.stream_of(name) for name in self.get_all_tasks()}

    @override
    async def kick(self, message: BrokerMessage) -> None:
        command = ("XADD", self.stream_of(message.task_name), "*", "data", message.message)
        if self.send is not None:
            await self.send(*command)
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
                for stream, entries in _read(
                    await redis.xreadgroup(group, name, wanted, count=self.count, block=self.block)
                ):
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
            self._acks.setdefault(queue_name, []).append(id)
            if self._acknowledging is None or self._acknowledging.done():
                self._acknowledging = asyncio.create_task(self._acknowledge(), name="mageflow-ack")

        return acknowledge

    async def _acknowledge(self) -> None:
        """Acknowledge what ended within 10 ms in one command; a delivery that comes again meanwhile is turned away."""
        await asyncio.sleep(_ACK_AFTER)
        while self._acks:
            stream, ids = self._acks.popitem()
            try:
                async with Redis(connection_pool=self.connection_pool) as redis:
                    await redis.xack(stream, self.consumer_group_name, *ids)
            except (RedisError, OSError) as error:
                logger.warning("%d deliveries were not acknowledged, they may come again: %s", len(ids), error)

    async def flush(self) -> None:
        """Wait until everything is acknowledged."""
        if self._acknowledging is not None:
            await asyncio.gather(self._acknowledging, return_exceptions=True)


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


class EmbeddedBackend(TaskiqBackend):
    """Runs tasks in this process; other processes of the directory share the queue."""

    capabilities = Capabilities(bulk=500, start_timeout=3.0, redelivers=True)

    def __init__(self, queue: str, namespace: str) -> None:
        self._stream = make_broker(queue)
        super().__init__(self._stream, namespace)
        self._finish: asyncio.Event | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @override
    def connect(self, address: Address) -> None:
        self._stream.connection_pool = self._pool(address)
        self._stream.send = address.send
        results = cast("RedisAsyncResultBackend[Any]", self._stream.result_backend)
        results.redis_pool = self._pool(address)

    def _pool(self, address: Address) -> BlockingConnectionPool:
        settings: dict[str, Any] = {"socket_timeout": None, **address.settings}
        return BlockingConnectionPool(connection_class=address.connection_class, **settings)

    def _redis(self) -> Redis:
        return Redis(connection_pool=self._stream.connection_pool)

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        return await asyncio.gather(*(self.submit_one(dispatch) for dispatch in batch))

    @override
    async def drained(self) -> Collection[str]:
        streams = self._stream.streams
        try:
            empty = [await self._is_drained(stream) for stream in streams.values()]
        except (RedisError, OSError):
            return ()
        return [name for name, nothing in zip(streams, empty, strict=True) if nothing]

    async def _is_drained(self, stream: str) -> bool:
        """Whether every message of a stream was delivered to somebody."""
        groups = await self._redis().xinfo_groups(stream)
        newest = await self._redis().xrevrange(stream, count=1)
        return not newest or {newest[0][0]} == {group["last-delivered-id"] for group in groups}

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
                await asyncio.sleep(_PAUSE)

    async def _tidy(self) -> None:
        """Drop messages that every worker is through with, and consumers that are gone: one stream at a time."""
        turn = 0
        while True:
            await asyncio.sleep(_TIDY_EVERY)
            streams = list(self._stream.streams.values())
            if not streams:
                continue
            turn = (turn + 1) % len(streams)
            try:
                await self._trim(streams[turn], self._stream.consumer_group_name)
            except (RedisError, OSError) as error:
                logger.debug("stream %s was not tidied: %s", streams[turn], error)

    async def _trim(self, stream: str, group: str) -> None:
        redis = self._redis()
        pending = await redis.xpending(stream, group)
        [state] = await redis.xinfo_groups(stream)
        await redis.xtrim(stream, minid=pending["min"] or state["last-delivered-id"], approximate=True)
        for consumer in await redis.xinfo_consumers(stream, group):
            if consumer["pending"] == 0 and consumer["idle"] > self._stream.idle_timeout:
                await redis.xgroup_delconsumer(stream, group, consumer["name"])

    @override
    async def close(self) -> None:
        if self._finish is not None:
            self._finish.set()
            listener, tidy = self._tasks
            await asyncio.gather(listener, return_exceptions=True)
            tidy.cancel()
            await asyncio.gather(tidy, return_exceptions=True)
            await self._stream.flush()
            self._finish, self._tasks = None, []
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        await super().close()
        self._stream.send = None
