"""What the chaos test runs: flows made from a seed, and the client that starts them and lets them grow."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mageflow import Mageflow, SwarmConfig
from mageflow.errors import (
    AlreadyInContainerError,
    AlreadyStartedError,
    IllegalMoveError,
    StoreUnavailableError,
    SwarmIsCanceledError,
    SwarmIsClosedError,
)
from mageflow.flow.ids import id_of, key_of
from mageflow.signature import Signature
from mageflow.swarm import SwarmSignature
from tests.chaos.flows import RETRIES, RETRIES_OF

Signed = Signature[Any, Any]
_DEEPEST = 3
_TASKS = ("work", "work", "work", "plain", "flaky")


@dataclass(kw_only=True)
class Node:
    """A signature to be made: a task, chain or swarm, with its callbacks.

    Of the members of a swarm the last `grown` are added while it runs, by the loader; or the last `inside` by the first
    of them, which may run again and must not add any twice. A task creates and starts the flows `spawns`, each in a
    transaction if it is `atomic`. The loader creates and starts what is `at_once` in one transaction. `id` is there
    once the loader created it.
    """

    name: str
    kind: Literal["t", "c", "s"] = "t"
    task: str = "work"
    pause: float = 0.0
    failures: int = 0
    members: list[Node] = field(default_factory=list["Node"])
    success: list[Node] = field(default_factory=list["Node"])
    failure: list[Node] = field(default_factory=list["Node"])
    bound: int | None = None
    budget: int | None = None
    on_stop: Literal["finish", "interrupt"] = "finish"
    grown: int = 0
    inside: int = 0
    adds: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    spawns: list[Node] = field(default_factory=list["Node"])
    atomic: bool = False
    at_once: bool = False
    id: str = ""

    @property
    def fails(self) -> bool:
        """Whether the task fails for good."""
        return self.failures > RETRIES_OF.get(self.task, 0)

    @property
    def bound_arguments(self) -> dict[str, Any]:
        """The bound arguments of a task."""
        bound: dict[str, Any] = {"name": self.name, "pause": self.pause, "failures": self.failures}
        if self.adds:
            bound["adds"] = self.adds
        if self.spawns:
            bound |= {"spawns": [child.description for child in self.spawns], "atomic": self.atomic}
        return bound

    @property
    def description(self) -> dict[str, Any]:
        """What a task needs to know to create it."""
        if self.members:
            return {"name": self.name, "members": [member.description for member in self.members]}
        return {"name": self.name, "task": self.task, "bound": self.bound_arguments}

    def walk(self) -> Iterator[Node]:
        """Yield it and its members at every depth, callbacks left out."""
        yield self
        for member in self.members:
            yield from member.walk()


class Maker:
    """Makes random flows; `more` are tasks beside those that every task manager has."""

    def __init__(self, seed: str, more: Sequence[str] = ()) -> None:
        self._random = random.Random(seed)
        self._tasks = (*_TASKS, *more)
        self.tasks = 0

    def flows(self, size: int) -> list[Node]:
        """Return flows of so many tasks together, or a few more."""
        made: list[Node] = []
        while self.tasks < size:
            made.append(self._node(f"f{len(made)}", 0))
        return made

    def _node(self, name: str, depth: int) -> Node:
        kinds = "tccsssss" if depth == 0 else "tttttcs"
        kind = self._random.choice(kinds) if depth < _DEEPEST else "t"
        make: dict[str, Callable[[str, int], Node]] = {"c": self._chain, "s": self._swarm}
        node = make[kind](name, depth) if kind in make else self._task(name)
        if kind == "t" and self._random.random() < 0.1:
            self._let_spawn(node)
        self._add_callbacks(node, depth)
        if depth == 0 and not (node.inside or node.grown):
            node.at_once = self._random.random() < 0.2
        return node

    def _task(self, name: str) -> Node:
        self.tasks += 1
        shortest, longest = self._random.choices([(0, 0.02), (0.05, 0.4), (0.4, 1.5)], weights=[5, 4, 1])[0]
        pause = self._random.uniform(shortest, longest)
        task = self._random.choice(self._tasks)
        bad = int(self._random.random() < 0.08) * (RETRIES_OF.get(task, 0) + 1)
        failures = self._of_retried() if task == "flaky" else bad
        return Node(name=name, task=task, pause=round(pause, 4), failures=failures)

    def _of_retried(self) -> int:
        return self._random.choice([0, 1, 2, RETRIES + 1])

    def _let_spawn(self, node: Node) -> None:
        """Let a task create and start flows, whatever becomes of the task itself."""
        node.task, node.failures, node.pause = "spawn", self._of_retried(), min(node.pause, 0.3)
        node.atomic = self._random.random() < 0.5
        for index in range(self._random.randint(1, 3)):
            name = f"{node.name}+{index}"
            chain = self._random.random() < 0.4
            parts = [self._task(f"{name}.{step}") for step in range(2)] if chain else []
            node.spawns.append(Node(name=name, kind="c", members=parts) if chain else self._task(name))

    def _members(self, name: str, depth: int, count: int) -> list[Node]:
        return [self._node(f"{name}.{index}", depth + 1) for index in range(count)]

    def _chain(self, name: str, depth: int) -> Node:
        return Node(name=name, kind="c", members=self._members(name, depth, self._random.randint(2, 5)))

    def _swarm(self, name: str, depth: int) -> Node:
        if depth == 0 and self._random.random() < 0.2:
            return self._growing(name)
        count = self._random.randint(0, 6) if depth else self._random.randint(4, 30)
        grown = self._random.choice([0, 0, count // 3, count]) if depth == 0 else 0
        return Node(
            name=name,
            kind="s",
            members=self._members(name, depth, count),
            bound=self._random.choice([1, 2, 3, 8, None]),
            budget=self._random.choice([None, None, 1, 3]),
            on_stop=self._random.choice(["finish", "interrupt"]),
            grown=grown,
        )

    def _growing(self, name: str) -> Node:
        """Return a swarm to which its first member adds others."""
        inside = self._random.randint(1, 12)
        grower = Node(name=f"{name}.0", task="grow", pause=round(self._random.uniform(0, 0.3), 4))
        others = [self._task(f"{name}.{index + 1}") for index in range(self._random.randint(0, 4) + inside)]
        grower.adds = [(node.task, node.bound_arguments) for node in others[-inside:]]
        bound = self._random.choice([1, 2, None])
        return Node(name=name, kind="s", members=[grower, *others], bound=bound, inside=inside)

    def _add_callbacks(self, node: Node, depth: int) -> None:
        """Add callbacks; of an error only tasks, for they tell what error they got."""
        if self._random.random() < (0.6 if depth == 0 else 0.15):
            count = self._random.choice([1, 1, 2])
            node.success = [self._node(f"{node.name}/s{index}", max(depth + 1, 2)) for index in range(count)]
        if self._random.random() < (0.6 if depth == 0 else 0.15):
            node.failure = [self._task(f"{node.name}/e")]


class _ChangedMindError(Exception):
    """Ends a transaction that is to leave nothing behind."""


class Loader:
    """Creates flows, starts them, lets them grow; calls that Redis did not answer are made again."""

    def __init__(self, client: Mageflow, seed: str) -> None:
        self._client = client
        self._random = random.Random(f"{seed} load")
        self.started: list[Node] = []

    async def run(self, flow: Node) -> None:
        """Create a flow, start it, and add to it what is to be added while it runs."""
        if self._random.random() < 0.1:
            await self._change_mind()
        if flow.at_once:
            while not await self._at_once(flow):
                pass
            self.started.append(flow)
        else:
            signature = await self._create(flow)
            self.started.append(flow)
            await self._start(flow, signature)

    async def _start(self, flow: Node, signature: Signed) -> None:
        message = {"swarm": signature.key} if flow.inside else None
        try:
            await _insist(lambda: signature.aio_run_no_wait(message), already=(AlreadyStartedError,))
        except AlreadyStartedError:
            raise
        except IllegalMoveError:  # it was canceled meanwhile; the audit knows whether it was
            return
        if isinstance(signature, SwarmSignature) and flow.grown:
            await self._grow(flow, signature)

    async def _at_once(self, flow: Node) -> bool:
        """Create a flow and start it in one transaction; whether it was written, also where that was not answered."""
        flow.id = ""
        try:
            async with self._client.abounded_field():
                signature = await self._create(flow)
                await signature.aio_run_no_wait()
        except StoreUnavailableError:
            key = key_of(self._client.config.namespace, flow.id)
            return bool(flow.id) and await _insist(lambda: self._client.load_signature(key)) is not None
        return True

    async def _change_mind(self) -> None:
        """Start something in a transaction that fails: it must never run."""
        with contextlib.suppress(_ChangedMindError):
            async with self._client.abounded_field():
                signature = await self._client.asign("work", kwargs=Node(name="never").bound_arguments)
                await signature.aio_run_no_wait()
                raise _ChangedMindError

    async def _grow(self, flow: Node, swarm: SwarmSignature[Any, Any]) -> None:
        """Add the rest of the members one page after the other, then close; a failed swarm takes no more."""
        late, page = flow.members[len(flow.members) - flow.grown :], 3
        del flow.members[len(flow.members) - flow.grown :]
        try:
            for start in range(0, len(late), page):
                await asyncio.sleep(self._random.uniform(0, 0.3))
                added = late[start : start + page]
                try:
                    await self._add(swarm, added)
                finally:  # an answer may have been lost, before the swarm ended
                    flow.members.extend(added)
            await _insist(swarm.close_swarm)
        except (SwarmIsClosedError, SwarmIsCanceledError):
            return

    async def _add(self, swarm: SwarmSignature[Any, Any], nodes: list[Node]) -> None:
        signatures = [await self._create(node) for node in nodes]
        await _insist(lambda: swarm.aio_run_in_swarm(signatures), already=(AlreadyInContainerError,))

    async def _create(self, node: Node) -> Signed:
        """Create a signature; one whose creation was not answered may be there and is left to its lifetime."""
        success = [await self._create(callback) for callback in node.success]
        failure = [await self._create(callback) for callback in node.failure]
        count = len(node.members) - node.grown - node.inside
        members = [await self._create(member) for member in node.members[:count]]
        made = await _insist(lambda: self._make(node, members, success, failure))
        node.id = id_of(self._client.config.namespace, made.key)
        return made

    async def _make(self, node: Node, members: list[Signed], success: list[Signed], failure: list[Signed]) -> Signed:
        callbacks: dict[str, Any] = {"success_callbacks": success, "error_callbacks": failure}
        if node.kind == "t":
            return await self._client.asign(node.task, kwargs=node.bound_arguments, **callbacks)
        if node.kind == "c":
            return await self._client.achain(members, node.name, **callbacks)
        config = SwarmConfig(max_concurrency=node.bound, stop_after_n_failures=node.budget, on_stop=node.on_stop)
        return await self._client.aswarm(
            members, node.name, config=config, is_swarm_closed=not (node.grown or node.inside), **callbacks
        )


async def _insist(call: Callable[[], Awaitable[Any]], already: tuple[type[Exception], ...] = ()) -> Any:
    """Call until Redis answers; `already` says that an earlier call, whose answer was lost, had done it."""
    lost = False
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            lost = True
        except already:
            if not lost:
                raise
            return None
