"""What the scenarios share: a client with a worker and tasks that keep what they got and can be held at a gate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import redis
from pydantic import BaseModel, ConfigDict

from mageflow import ErrorValue, Mageflow, ReturnValue
from mageflow.store.keys import Keys

Message = dict[str, Any]


class Number(BaseModel):
    """A message of one number."""

    n: int


class Previous(BaseModel):
    """The number before, and what to add to it."""

    value: ReturnValue[int]
    by: int = 1


def numbers(count: int, start: int = 0) -> Iterator[Message]:
    """Return messages of one number each."""
    return ({"n": n} for n in range(start, start + count))


class Values(BaseModel):
    """The results of a swarm."""

    values: ReturnValue[list[Any]]


class Named(BaseModel):
    """The name of a gate."""

    model_config = ConfigDict(extra="ignore")

    gate: str
    fails: bool = False


class Failure(BaseModel):
    """What failed, with the rest of the message."""

    model_config = ConfigDict(extra="allow")

    error: ErrorValue


async def nothing(msg: Message) -> None:
    """Take anything and return nothing."""


class BrokenError(Exception):
    """What `fail` raises."""


class Stage:
    """A client with tasks.

    `echo` returns its message, `double` and `add` calculate, `total` sums up a list, `fail` raises, `note` returns
    nothing, `on_error` takes an error, `wait` holds until the test opens its gate. They keep the messages they got.
    """

    def __init__(self, client: Mageflow) -> None:
        self.client = client
        self.messages: dict[str, list[Any]] = {}
        self.running: set[str] = set()
        self.peak = 0
        self.started: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._all_open = False
        self._register()

    def got(self, name: str) -> list[Any]:
        """Return the messages that a task got, in order."""
        return self.messages.get(name, [])

    def keep(self, name: str, message: object) -> None:
        """Keep a message that a task got."""
        self.messages.setdefault(name, []).append(message)

    def counts(self) -> Counter[str]:
        """Return how often each task ran."""
        return Counter({name: len(messages) for name, messages in self.messages.items()})

    def open(self, *gates: str) -> None:
        """Let `wait` go on at these gates, now and later."""
        for gate in gates:
            self._gate(gate).set()

    def open_all(self) -> None:
        """Let everything end that waits, and whatever comes to wait."""
        self._all_open = True
        self.open(*self._gates)

    def _gate(self, name: str) -> asyncio.Event:
        gate = self._gates.setdefault(name, asyncio.Event())
        if self._all_open:
            gate.set()
        return gate

    def _register(self) -> None:
        client = self.client

        @client.task(name="echo")
        async def echo(msg: Message) -> Message:
            self.keep("echo", msg)
            return msg

        @client.task(name="double")
        async def double(msg: Number) -> int:
            self.keep("double", msg)
            return msg.n * 2

        @client.task(name="add")
        async def add(msg: Previous) -> int:
            self.keep("add", msg)
            return msg.value + msg.by

        @client.task(name="total")
        async def total(msg: Values) -> int:
            self.keep("total", msg)
            return sum(msg.values)

        @client.task(name="fail")
        async def fail(msg: Message) -> None:
            self.keep("fail", msg)
            raise BrokenError(str(msg.get("text", "broken")))

        @client.task(name="note")
        async def note(msg: Message) -> None:
            self.keep("note", msg)

        @client.task(name="on_error")
        async def on_error(msg: Failure) -> None:
            self.keep("on_error", msg)

        @client.task(name="wait")
        async def wait(msg: Named) -> str:
            self.started.append(msg.gate)
            self.running.add(msg.gate)
            self.peak = max(self.peak, len(self.running))
            try:
                await self._gate(msg.gate).wait()
            finally:
                self.running.discard(msg.gate)
            if msg.fails:
                raise BrokenError(msg.gate)
            return msg.gate

        self.echo, self.double, self.add, self.fail, self.note = echo, double, add, fail, note


class Server:
    """Looks into Redis, and breaks what is there."""

    def __init__(self, connection: redis.Redis, namespace: str) -> None:
        self.connection = connection
        self.keys = Keys(namespace)
        self._namespace = namespace

    def dump(self) -> dict[str, object]:
        """Return every key of the namespace with all that is in it; of the never started the ids alone."""
        found = cast("Iterator[bytes]", self.connection.scan_iter(match=self.keys.everything, count=1000))
        dumped = {key.decode(): self._value(key) for key in found}
        return {
            key: set(cast("dict[bytes, float]", value)) if key.endswith(":ix:p") else value
            for key, value in dumped.items()
        }

    def _value(self, key: bytes) -> object:
        kind = cast("bytes", self.connection.type(key)).decode()
        read: dict[str, Callable[[], Any]] = {
            "hash": lambda: self.connection.hgetall(key),
            "zset": lambda: dict(cast("Any", self.connection.zrange(key, 0, -1, withscores=True))),
            "list": lambda: self.connection.lrange(key, 0, -1),
            "set": lambda: self.connection.smembers(key),
            "stream": lambda: self.connection.xrange(key),
            "string": lambda: self.connection.get(key),
            "none": lambda: None,
        }
        return read[kind]()

    def all_offered(self) -> bool:
        """Whether each row of the outbox was noted as handed over: then nothing changes by itself without a worker."""
        rows = cast("list[bytes]", self.connection.zrange(self.keys.outbox, 0, -1))
        signatures = [row.decode() for row in rows if not row.startswith(b"!")]
        return all(self.connection.hget(self.keys.record(row), "of") not in (None, b"0") for row in signatures)

    def flow_keys(self) -> list[str]:
        """Return the names of the keys that belong to signatures."""
        names = [key.partition("}:")[2] for key in self.dump()]
        return sorted(name for name in names if ":" in name and not name.startswith(("ix:", "op:", "queue:")))

    def dump_of_flows(self) -> dict[str, object]:
        """Return the keys of signatures, rows and indices: everything but what a living worker touches."""
        living = ("beat", "gap", "workers", "queue", "lo")
        return {key: value for key, value in self.dump().items() if key.partition("}:")[2].split(":")[0] not in living}

    def time_to_live(self, key: str) -> int:
        """Return the seconds that the record of a signature will live; -1: for ever, -2: it is gone."""
        return self.connection.ttl(self.keys.record(self.id_of(key)))

    def fired_by(self, key: str) -> list[str]:
        """Return the keys of the callbacks that a signature fired."""
        fired = cast("list[bytes]", self.connection.lrange(self.keys.fired(self.id_of(key)), 0, -1))
        return [f"mf:{self._namespace}:{identifier.decode()}" for identifier in fired]

    def id_of(self, key: str) -> str:
        """Return the id in a public key."""
        return key.rpartition(":")[2]

    def clear(self) -> None:
        """Delete what a test broke on purpose."""
        for key in self.dump():
            self.connection.delete(key)
