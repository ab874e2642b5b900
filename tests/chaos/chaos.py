"""Runs flows while workers are killed, the server dies and stops, and a client suspends and interrupts at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
from tests.chaos.evidence import Evidence, Interrupt, Outcome, read_executions, take_snapshot
from tests.chaos.flows import make_client
from tests.chaos.load import Loader, Maker, Node
from tests.eventually import eventually

Kind = Literal["workers", "server", "pause", "steer", "double", "skew", "freeze"]
EVERYTHING: frozenset[Kind] = frozenset({"workers", "server", "pause", "steer", "double", "skew", "freeze"})
NAMESPACE = "chaos"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do: everything random follows from the seed, but for what the machine adds."""

    seed: str
    tasks: int = 300
    seconds: float = 15.0
    kinds: frozenset[Kind] = EVERYTHING
    workers: int = 3
    patience: float = 60.0
    """Seconds after the end of the chaos in which everything must have ended."""
    flows: tuple[Node, ...] = ()
    """Flows to run besides those that are made from the seed."""


@dataclass(kw_only=True)
class Run:
    """One run of a plan."""

    plan: Plan
    client: Mageflow
    crew: Crew
    server: Server
    interrupts: list[Interrupt] = field(default_factory=list[Interrupt])
    steered: int = 0

    def __post_init__(self) -> None:
        self._loader = Loader(self.client, self.plan.seed)
        self._random = random.Random(f"{self.plan.seed} chaos")
        self._holding: set[asyncio.Task[None]] = set()
        self._marked: list[str] = []

    async def evidence(self) -> Evidence:
        """Do what the plan says and collect what can be known."""
        flows = [*Maker(self.plan.seed).flows(self.plan.tasks), *self.plan.flows]
        self.server.write_at_once()
        await self.crew.ready()
        await self._unleash(flows)
        with contextlib.suppress(AssertionError):  # the audit says what is left
            await eventually(self.server.is_idle, "nothing is due and nothing runs", self.plan.patience)
        outcomes = await asyncio.gather(*(self._outcome(flow) for flow in flows))
        return Evidence(
            flows=flows,
            executions=read_executions(self.crew.folder),
            state=take_snapshot(self.server.client, NAMESPACE),
            outcomes={flow.name: told for flow, told in zip(flows, outcomes, strict=True) if told is not None},
            deaths=dict(self.crew.deaths),
            interrupts=self.interrupts,
            freezes=self.crew.freezes,
        )

    async def _unleash(self, flows: list[Node]) -> None:
        """Start the flows evenly over the time of the plan, with all kinds of chaos around them."""
        until = time.monotonic() + self.plan.seconds
        kinds = self.plan.kinds
        chaos: list[asyncio.Task[None]] = [asyncio.create_task(self._replace_workers())]
        if kinds & {"server", "pause"}:
            chaos.append(asyncio.create_task(self._disturb_server()))
        if "freeze" in kinds:
            chaos.append(asyncio.create_task(self._freeze_workers()))
        if "steer" in kinds:
            chaos.append(asyncio.create_task(self._steer()))
        loading: list[asyncio.Task[None]] = []
        for index, flow in enumerate(flows):
            left = (until - time.monotonic()) / (len(flows) - index)
            loading.append(asyncio.create_task(self._loader.run(flow)))
            await asyncio.sleep(max(0.0, left))
        for task in chaos:
            task.cancel()
        for error in await asyncio.gather(*chaos, return_exceptions=True):
            if isinstance(error, Exception):
                raise error
        await asyncio.gather(*loading)
        await asyncio.gather(*self._holding)
        for identifier in self._marked:
            await self._steered("resume", identifier)

    async def _replace_workers(self) -> None:
        """Kill a worker every two seconds; replace those that are gone."""
        while True:
            await asyncio.sleep(2)
            self.crew.replace_lost()
            if "workers" in self.plan.kinds:
                self.crew.kill_any()

    async def _freeze_workers(self) -> None:
        """Stop workers for longer than a lease, one after the other."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 3))
            await self.crew.freeze_any(self._random.uniform(7, 9))

    async def _disturb_server(self) -> None:
        """Kill the server, or stop it for some seconds, in turns."""
        while True:
            for kind in ("server", "pause"):
                await asyncio.sleep(self._random.uniform(1.5, 3.5))
                if kind in self.plan.kinds:
                    await (self.server.kill() if kind == "server" else self.server.pause(self._random.uniform(1, 3.5)))

    async def _steer(self) -> None:
        """Hold random signatures for a while: flows, containers, members."""
        while True:
            await asyncio.sleep(self._random.uniform(0.02, 0.3))
            if self._loader.started:
                recent = self._loader.started[-8:]
                node = self._random.choice([node for node in self._random.choice(recent).walk() if node.id])
                verb = self._random.choice(["suspend", "interrupt"])
                task = asyncio.create_task(self._hold(verb, node.id, self._random.uniform(0, 1.5)))
                self._holding.add(task)
                task.add_done_callback(self._holding.discard)

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
        }
        while True:
            with contextlib.suppress(StoreUnavailableError):
                with contextlib.suppress(TaskAlreadyRunningError):
                    await verbs[verb](key)
                break
        self.steered += 1
        if verb == "interrupt":
            self.interrupts.append(Interrupt(id=identifier, began=began, ended=time.monotonic()))

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


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run left: the evidence, how much chaos there was, and workers that ended by themselves."""

    evidence: Evidence
    summary: str
    lost_workers: list[str]


async def run_chaos(plan: Plan, folder: Path) -> Report:
    """Run a plan in a folder of its own, with a server of its own."""
    directory = folder / "server"
    embedded = await EmbeddedServer.acquire(directory)
    server, double = Server(embedded.url, NAMESPACE), "double" in plan.kinds
    client = make_client(folder, NAMESPACE, source=embedded.url, double=double)
    environment = {
        "MAGEFLOW_DIRECTORY": str(directory),
        "CHAOS_FOLDER": str(folder),
        "CHAOS_NAMESPACE": NAMESPACE,
        "CHAOS_DOUBLE": str(int(double)),
    }
    crew = Crew(
        folder=folder, environment=environment, random=random.Random(f"{plan.seed} crew"), skew="skew" in plan.kinds
    )
    began = time.monotonic()
    try:
        await client.startup()
        with crew.at_work(plan.workers):
            run = Run(plan=plan, client=client, crew=crew, server=server)
            evidence = await run.evidence()
            summary = (
                f"seed {plan.seed}: {len(evidence.flows)} flows, {len(evidence.executions)} executions, "
                f"{crew.kills} workers killed, {len(crew.freezes)} frozen, "
                f"server killed {server.kills} and stopped {server.pauses} times, "
                f"{run.steered} calls that steer, {time.monotonic() - began:.0f} s"
            )
    finally:
        await client.shutdown()
        server.close()
        await embedded.release()
    return Report(evidence=evidence, summary=summary, lost_workers=crew.failures)
