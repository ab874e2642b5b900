"""Options of Hatchet's client that decide when runs start, and which: crons, limits by rate and by number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, EmptyModel
from hatchet_sdk.rate_limit import RateLimit, RateLimitDuration
from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, MageflowConfig, Status, TTLConfig
from mageflow.errors import FlowFailedError
from mageflow.flow.ids import new_id
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.subjects import make_client, worker_thread
from tests.hatchet.tasks import Notes

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
DEADLINE = 30.0
EVERY_SECOND = "* * * * * *"


class Held(BaseModel):
    """A message that says whom it belongs to, and what it waits for."""

    name: str
    customer: str = ""
    until: str = ""


class Served:
    """A client with a worker of this process."""

    def __init__(self) -> None:
        config = MageflowConfig(namespace=f"options{new_id()}".lower(), ttl=TTLConfig(done_ttl=60))
        self.client = make_client(config)
        self.notes = Notes()
        self.limit = f"limit{new_id()}"
        self._register_timed()
        for strategy in ("GROUP_ROUND_ROBIN", "CANCEL_IN_PROGRESS", "CANCEL_NEWEST"):
            self._register_limited(strategy)

    def _register_timed(self) -> None:
        @self.client.task(name="double")
        async def double(n: int) -> int:
            return n * 2

        @self.client.task(name="rare", rate_limits=[RateLimit(static_key=self.limit, units=1)])
        async def rare(n: int) -> int:
            self.notes.add("rare", (n, time.monotonic()))
            return n

    def _register_limited(self, strategy: str) -> None:
        limit = ConcurrencyExpression(
            expression="input.customer", max_runs=1, limit_strategy=ConcurrencyLimitStrategy(strategy)
        )

        @self.client.task(name=strategy.lower(), input_validator=Held, concurrency=[limit])
        async def held(message: Held) -> str:
            name, customer = message.name, f"{strategy} {message.customer}"
            self.notes.add(customer, (name, "began"))
            try:
                while message.until not in ("", *self.notes.of("said")):
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                self.notes.add(customer, (name, "canceled"))
                raise
            self.notes.add(customer, (name, "ended"))
            return name


@pytest.fixture(scope="module")
def worker(hatchet_environment: Address | None) -> Iterator[Served]:
    """A client whose worker serves every test of the module."""
    served = Served()
    served.client.rate_limits.put(served.limit, 1, RateLimitDuration.SECOND)
    with worker_thread(served.client):
        yield served


async def test_cron_outside_of_a_flow(served: Served) -> None:
    """A run that a task's cron starts is a plain one, each makes flows of its own."""
    client, ticks = make_client(MageflowConfig(namespace=served.client.config.namespace)), list[Any]()

    @client.task(name="tick", on_crons=[EVERY_SECOND], cron_input=EmptyModel.model_validate({"n": 4}))
    async def tick(message: EmptyModel, ctx: Context) -> dict[str, Any]:
        doubled = await (await mageflow.asign("double", **dict(message))).aio_run(timeout=DEADLINE)
        ticks.append((doubled, ctx.additional_metadata))
        return {}

    serving = worker_thread(client)
    serving.__enter__()
    try:
        await eventually(lambda: len(ticks) >= 3, "it ran three times", DEADLINE)
    finally:
        _without_crons(client)
        await asyncio.to_thread(serving.__exit__, None, None, None)
    assert {doubled for doubled, _ in ticks} == {8}
    assert not [name for _, metadata in ticks for name in metadata if name.startswith("mageflow")]
    crons = (await served.client.cron.aio_list()).rows or ()
    assert not [row for row in crons if row.workflow_name.startswith(served.client.config.namespace)]


def _without_crons(client: Mageflow) -> None:
    """Give the engine a newer version of the task, which no cron starts: else it would go on for ever."""
    plain = make_client(MageflowConfig(namespace=client.config.namespace))

    @plain.task(name="tick")
    async def tick() -> dict[str, Any]:
        return {}

    plain._backend.manager._client.admin.put_workflow(tick.to_proto())


async def test_cron_of_the_client(served: Served) -> None:
    """A cron that the client creates starts plain runs with its input; it is listed, and can be deleted."""
    crons, asked = served.client.cron, {"workflow_name": "double", "expression": EVERY_SECOND}
    made = await crons.aio_create(**asked, cron_name="often", input={"n": 7}, additional_metadata={"customer": "ann"})
    identifier = made.metadata.id
    assert identifier in [row.metadata.id for row in (await crons.aio_list()).rows or ()]
    assert (await crons.aio_get(identifier)).input == {"n": 7}
    await eventually(lambda: _ran(served, "often"), "it ran", DEADLINE)
    await crons.aio_delete(identifier)
    assert identifier not in [row.metadata.id for row in (await crons.aio_list()).rows or ()]


async def _ran(served: Served, cron: str) -> bool:
    found = await served.client.runs.aio_list(additional_metadata={"hatchet__cron_name": cron})
    return any(row.output == {"mageflow_result": 14} for row in found.rows)


async def test_rate_limit(served: Served) -> None:
    """A rate limit delays members of flows, for longer than a start usually takes; none is lost and none runs twice."""
    members = [await served.client.asign("rare", n=n) for n in range(7)]
    swarm = await served.client.aswarm(members, is_swarm_closed=True)
    assert await swarm.aio_run(timeout=DEADLINE) == [*range(7)]
    began = served.notes.of("rare")
    assert sorted(n for n, _ in began) == [*range(7)]
    assert began[-1][1] - began[0][1] > 5
    await eventually(lambda: _has_runs(served, swarm.key, 7), "each has one run", DEADLINE)


async def _has_runs(served: Served, flow: str, count: int) -> bool:
    return len((await served.client.runs.aio_list(additional_metadata={"mageflow_flow": flow})).rows) == count


async def test_group_round_robin(served: Served) -> None:
    """Of members of two flows that share a key one runs at a time, beside those of another key."""
    flows = [await _swarm(served, f"flow{n}", ["shared", "shared", f"own{n}"]) for n in range(2)]
    handles = [await flow.aio_run_no_wait() for flow in flows]
    for own in ("own0", "own1"):  # they run while the first of the others does
        await eventually(lambda own=own: bool(served.notes.of(f"GROUP_ROUND_ROBIN {own}")), "it runs", DEADLINE)
    served.notes.add("said", "go")
    for index, handle in enumerate(handles):
        assert await handle.result(DEADLINE) == [f"flow{index}.{n}" for n in range(3)]
    noted = served.notes.of("GROUP_ROUND_ROBIN shared")
    assert [what for _, what in noted] == ["began", "ended"] * 4
    assert [name for name, _ in noted[::2]] == [name for name, _ in noted[1::2]]


async def _swarm(served: Served, name: str, customers: list[str]) -> Any:
    members = [
        await served.client.asign("group_round_robin", name=f"{name}.{n}", customer=customer, until="go")
        for n, customer in enumerate(customers)
    ]
    return await served.client.aswarm(members, name, is_swarm_closed=True)


async def _is(signature: Any, status: Status) -> bool:
    await signature.arefresh()
    return signature.task_status is status


async def test_cancel_newest(served: Served) -> None:
    """What is canceled because another runs is a canceled member: its chain fails, its swarm goes on."""
    first = await _held(served, "cancel_newest", "first", "say newest")
    handle = await first.aio_run_no_wait()
    await eventually(lambda: ("first", "began") in served.notes.of("CANCEL_NEWEST a"), "it runs", DEADLINE)
    steps = [await _held(served, "cancel_newest", "step"), await served.client.asign("double", n=1)]
    chain = await (await served.client.achain(steps)).aio_run_no_wait()
    members = [await _held(served, "cancel_newest", "member"), await served.client.asign("double", n=2)]
    swarm = await (await served.client.aswarm(members, is_swarm_closed=True)).aio_run_no_wait()
    with pytest.raises(FlowFailedError) as failure:
        await chain.result(DEADLINE)
    assert failure.value.type == "Canceled"
    assert await swarm.result(DEADLINE) == [4]
    assert await _is(members[0], Status.CANCELED)
    served.notes.add("said", "say newest")
    assert await handle.result(DEADLINE) == "first"
    assert served.notes.of("CANCEL_NEWEST a") == [("first", "began"), ("first", "ended")]


async def _held(served: Served, task: str, name: str, until: str = "") -> Any:
    return await served.client.asign(task, name=name, customer="a", until=until)


async def test_cancel_in_progress(served: Served) -> None:
    """What is canceled because a newer one comes is a canceled member, and its swarm goes on; the newer one runs."""
    members = [await _held(served, "cancel_in_progress", "old", "never"), await served.client.asign("double", n=3)]
    swarm = await (await served.client.aswarm(members, is_swarm_closed=True)).aio_run_no_wait()
    await eventually(lambda: ("old", "began") in served.notes.of("CANCEL_IN_PROGRESS a"), "it runs", DEADLINE)
    newer = await _held(served, "cancel_in_progress", "new")
    assert await newer.aio_run(timeout=DEADLINE) == "new"
    assert await swarm.result(DEADLINE) == [6]
    assert await _is(members[0], Status.CANCELED)
    assert ("old", "canceled") in served.notes.of("CANCEL_IN_PROGRESS a")
