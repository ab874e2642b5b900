"""Runs flows while workers are killed, the server dies and stops, and a client suspends and interrupts at random."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from mageflow import Mageflow
from mageflow.backends.server import EmbeddedServer
from mageflow.errors import (
    FlowCanceledError,
    FlowFailedError,
    ResultTimeoutError,
    StoreUnavailableError,
    TaskAlreadyRunningError,
)
from mageflow.flow.ids import key_of
from tests.chaos.crew import Crew, Server
from tests.chaos.evidence import Evidence, Outage, Outcome, Steering, read_records, take_snapshot
from tests.chaos.flows import make_client
from tests.chaos.load import Loader, Maker, Node
from tests.eventually import eventually

Kind = Literal["workers", "leave", "server", "pause", "steer", "cancel", "double", "skew", "freeze", "broker"]
EVERYTHING: frozenset[Kind] = frozenset(get_args(Kind)) - {"broker"}
NAMESPACE = "chaos"
_LIFETIMES = 30 * 86400.0
"""Seconds after which no lifetime is left."""


class Restarted(Protocol):
    """A broker of its own process."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Where it is."""
        ...

    def stop(self) -> None:
        """Stop it."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do: everything random follows from the seed, but for what the machine adds."""

    seed: str
    tasks: int = 300
    seconds: float = 15.0
    kinds: frozenset[Kind] = EVERYTHING
    workers: int = 3
    broker: str = ""
    """A broker of TaskIQ, or an engine of Hatchet, instead of the embedded default."""
    pace: float = 1.0
    """How many times longer it takes than usual until the next worker is killed, leaves, freezes."""
    more: tuple[str, ...] = ()
    """Tasks that are called as well, of those that Hatchet alone has."""
    patience: float = 60.0
    """Seconds after the end of the chaos in which everything must have ended, and again in which all keys must go."""
    flows: tuple[Node, ...] = ()
    """Flows to run besides those that are made from the seed."""


@dataclass(kw_only=True)
class Run:
    """One run of a plan."""

    plan: Plan
    client: Mageflow
    crew: Crew
    server: Server
    broker: Restarted | None = None
    steering: list[Steering] = field(default_factory=list[Steering])
    whys: Counter[str] = field(default_factory=Counter[str])
    stalls: list[str] = field(default_factory=list[str])
    restarts: list[Outage] = field(default_factory=list[Outage])

    def __post_init__(self) -> None:
        self._loader = Loader(self.client, self.plan.seed)
        self._random = random.Random(f"{self.plan.seed} chaos")
        self._background: set[asyncio.Task[None]] = set()
        self._marked: list[str] = []

    async def evidence(self) -> Evidence:
        """Do what the plan says and collect what can be known."""
        flows = [*Maker(self.plan.seed, self.plan.more).flows(self.plan.tasks), *self.plan.flows]
        self.server.write_at_once()
        keeping = asyncio.create_task(self.crew.keep_complete())
        await self.crew.ready()
        await self._unleash(flows)
        if "workers" in self.plan.kinds:
            flows += await self._kill_once_more()
        await self._idle()
        await _end(keeping)
        outcomes = await asyncio.gather(*(self._outcome(flow) for flow in flows))
        state = take_snapshot(self.server.client, NAMESPACE)
        records = read_records(self.crew.folder)
        report = await self.client.repair()
        return Evidence(
            flows=flows,
            executions=records.executions,
            made=records.made,
            breaks=records.breaks,
            state=state,
            outcomes={flow.name: told for flow, told in zip(flows, outcomes, strict=True) if told is not None},
            deaths=dict(self.crew.deaths),
            leaves=self.crew.leaves,
            freezes=self.crew.freezes,
            outages=[*self.server.outages, *self.restarts],
            steering=self.steering,
            whys=self.whys,
            stalls=self.stalls,
            found=[f"{finding.kind} {finding.on}: {finding.detail}" for finding in report.findings],
            left=await self._left(),
        )

    async def _idle(self) -> None:
        with contextlib.suppress(AssertionError):  # the audit says what is left
            await eventually(self.server.is_idle, "nothing is due and nothing runs", self.plan.patience)

    async def _unleash(self, flows: list[Node]) -> None:
        """Start the flows evenly over the time of the plan, with all kinds of chaos around them."""
        until = time.monotonic() + self.plan.seconds
        works: dict[Callable[[], Awaitable[None]], set[Kind]] = {
            self._replace_workers: {"workers"},
            self._dismiss_workers: {"leave"},
            self._disturb_server: {"server", "pause"},
            self._disturb_broker: {"broker"},
            self._freeze_workers: {"freeze"},
            self._steer: {"steer", "cancel"},
        }
        chaos = [asyncio.ensure_future(work()) for work, kinds in works.items() if kinds & self.plan.kinds]
        asking = asyncio.create_task(self._ask_why())
        loading: list[asyncio.Task[None]] = []
        for index, flow in enumerate(flows):
            left = (until - time.monotonic()) / (len(flows) - index)
            loading.append(asyncio.create_task(self._loader.run(flow)))
            await asyncio.sleep(max(0.0, left))
        await _end(*chaos)
        await asyncio.gather(*loading)
        await asyncio.gather(*self._background)
        for identifier in self._marked:
            await self._steered("resume", identifier)
        await _end(asking)

    def _behind(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _replace_workers(self) -> None:
        """Kill a worker every few seconds."""
        while True:
            await asyncio.sleep(2 * self.plan.pace)
            self.crew.kill_any()

    async def _kill_once_more(self) -> list[Node]:
        """Kill a worker in the middle of its work, and nothing else: see how long it takes until that goes on."""
        tasks = ("work", "work", *self.plan.more)
        flows = [Node(name=f"last{index}", task=tasks[index % len(tasks)], pause=3.0) for index in range(30)]
        await self.crew.ready()
        # What is to run again soon must find a free worker.
        await self._idle()
        await asyncio.gather(*(self._loader.run(flow) for flow in flows))
        ids = {flow.id for flow in flows}

        def running() -> list[int]:
            executions = read_records(self.crew.folder).executions
            return [e.process for e in executions if e.id in ids and e.end is None]

        await eventually(lambda: len(running()) > 5, "the last tasks run", self.plan.patience)
        processes = running()
        busy = max(processes, key=processes.count)
        self.crew.kill(next(process for process in self.crew.living if process.pid == busy))
        return flows

    async def _dismiss_workers(self) -> None:
        """Tell workers to leave; they are given the time to."""
        while True:
            await asyncio.sleep(self._random.uniform(1, 3) * self.plan.pace)
            self._behind(self.crew.dismiss_any())

    async def _freeze_workers(self) -> None:
        """Stop workers for longer than a lease, one after the other."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 3) * self.plan.pace)
            await self.crew.freeze_any(self._random.uniform(7, 9))

    async def _disturb_server(self) -> None:
        """Kill the server, or stop it for some seconds, in turns."""
        while True:
            for kind in ("server", "pause"):
                await asyncio.sleep(self._random.uniform(1.5, 3.5))
                if kind in self.plan.kinds:
                    await (self.server.kill() if kind == "server" else self.server.pause(self._random.uniform(1, 3.5)))

    async def _disturb_broker(self) -> None:
        """Stop the broker and start it again; what has begun is not left half done."""
        while True:
            await asyncio.sleep(self._random.uniform(2, 5))
            await asyncio.shield(self._behind(self._restart_broker()))

    async def _restart_broker(self) -> None:
        assert self.broker is not None
        began = time.monotonic()
        await asyncio.to_thread(self.broker.stop)
        await asyncio.to_thread(self.broker.start)
        self.restarts.append(Outage(began=began, ended=time.monotonic()))

    def _anyone(self) -> Node | None:
        """Return a signature of the flows that were started last: a flow, a container, a member."""
        recent = self._loader.started[-8:]
        return self._random.choice([n for n in self._random.choice(recent).walk() if n.id]) if recent else None

    async def _steer(self) -> None:
        """Hold random signatures for a while, or cancel them."""
        verbs = {"steer": ["suspend", "interrupt"], "cancel": ["cancel"]}
        possible = [verb for kind, names in verbs.items() if kind in self.plan.kinds for verb in names]
        while True:
            await asyncio.sleep(self._random.uniform(0.02, 0.3))
            verb, node = self._random.choice(possible), self._anyone()
            if node is None or (verb == "cancel" and (node.adds or self._random.random() < 0.75)):
                continue  # without the one that adds the others, and closes it, a swarm would stay open
            self._behind(
                self._steered("cancel", node.id)
                if verb == "cancel"
                else self._hold(verb, node.id, self._random.uniform(0, 1.5))
            )

    async def _hold(self, verb: str, identifier: str, seconds: float) -> None:
        self._marked.append(identifier)
        await self._steered(verb, identifier)
        await asyncio.sleep(seconds)
        await self._steered("resume", identifier)

    async def _steered(self, verb: str, identifier: str) -> None:
        """Steer a signature; repeat until there is an answer."""
        key, began = key_of(NAMESPACE, identifier), time.monotonic()
        verbs: dict[str, Callable[[str], Awaitable[object]]] = {
            "suspend": self.client.pause,
            "interrupt": self.client.interrupt,
            "resume": self.client.resume,
            "cancel": self.client.cancel,
        }
        while True:
            with contextlib.suppress(StoreUnavailableError):
                with contextlib.suppress(TaskAlreadyRunningError):
                    await verbs[verb](key)
                break
        self.steering.append(Steering(verb=verb, id=identifier, began=began, ended=time.monotonic()))

    async def _ask_why(self) -> None:
        """Ask what signatures wait on, whatever happens to them."""
        while True:
            await asyncio.sleep(0.05)
            if (node := self._anyone()) is None:
                continue
            with contextlib.suppress(StoreUnavailableError):
                wait = await self.client.why(key_of(NAMESPACE, node.id))
                if wait is not None:
                    self.whys[wait.kind] += 1
                if wait is not None and wait.kind == "nothing":
                    self.stalls.append(f"{node.name}, {wait}")

    async def _left(self) -> list[str]:
        """Return what is left once all lifetimes are over; that of a template begins when what names it has gone."""

        def aged() -> bool:
            self.server.age(_LIFETIMES)
            return not self.server.left()

        with contextlib.suppress(AssertionError):  # the audit says what is left
            await eventually(aged, "no key is left", self.plan.patience)
        return self.server.left()

    async def _outcome(self, flow: Node) -> Outcome | None:
        """Ask like a caller; nothing is told where it has not ended."""
        signature = await self.client.load_signature(key_of(NAMESPACE, flow.id))
        if signature is None:
            return None
        try:
            return Outcome(status="d", result=await signature.handle.result(1))
        except FlowFailedError:
            return Outcome(status="f")
        except FlowCanceledError:
            return Outcome(status="c")
        except ResultTimeoutError:
            return None


async def _end(*tasks: asyncio.Future[None]) -> None:
    """Cancel tasks that never end; raise what ended one."""
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(error, Exception):
            raise error


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run left: the evidence, how much chaos there was, and workers that ended by themselves."""

    evidence: Evidence
    summary: str
    lost_workers: list[str]


async def run_chaos(plan: Plan, folder: Path, broker: Restarted | None = None) -> Report:
    """Run a plan in a folder of its own, with a server of its own; `broker` is one that can be restarted."""
    directory = folder / "server"
    embedded = await EmbeddedServer.acquire(directory)
    server = Server(embedded.url, NAMESPACE)
    environment = {
        "MAGEFLOW_DIRECTORY": str(directory),
        "CHAOS_FOLDER": str(folder),
        "CHAOS_NAMESPACE": NAMESPACE,
        "CHAOS_BROKER": plan.broker,
        "CHAOS_DOUBLE": str(int("double" in plan.kinds)),
    }
    # Workers of the embedded default find their server by its directory, and hold it.
    addresses = {"REDIS_URL": embedded.url, **({} if broker is None else broker.environment)}
    crew = Crew(
        folder=folder,
        environment=environment | (addresses if plan.broker else {}),
        random=random.Random(f"{plan.seed} crew"),
        skew="skew" in plan.kinds,
    )
    began = time.monotonic()
    with _environment(addresses):
        client = make_client(environment | addresses)
    try:
        await client.startup()
        with crew.at_work(plan.workers):
            run = Run(plan=plan, client=client, crew=crew, server=server, broker=broker)
            evidence = await run.evidence()
            calls = Counter(call.verb for call in evidence.steering)
            summary = (
                f"seed {plan.seed}: {len(evidence.flows)} flows, {len(evidence.executions)} executions, "
                f"{crew.kills} workers killed, {len(crew.leaves)} left, {len(crew.freezes)} frozen, "
                f"{len(evidence.breaks)} broken, "
                f"server killed {server.kills} and stopped {server.pauses} times, "
                f"broker restarted {len(run.restarts)} times, "
                f"steered {dict(calls)}, waits seen {dict(evidence.whys)}, {time.monotonic() - began:.0f} s"
            )
    finally:
        await client.shutdown()
        server.close()
        await embedded.release()
    return Report(evidence=evidence, summary=summary, lost_workers=crew.failures)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    """Have these variables while the context is open."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
