"""Workflows of several tasks, and stand-ins for what other services have, as signatures of flows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hatchet_sdk import ClientConfig, Context, Hatchet
from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig, ReturnValue, Status, SwarmConfig, TTLConfig
from mageflow.errors import FlowFailedError, InvalidMessageError, UnrecognizedTaskError
from mageflow.flow.ids import new_id
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.subjects import in_thread, make_client, serve, worker_thread
from tests.hatchet.tasks import Notes, Number

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
DEADLINE = 30.0


@dataclass
class Length:
    """A message of Hatchet's other kind."""

    meters: int
    names: list[str] = field(default_factory=lambda: ["l"])


@dataclass
class Doubled:
    """The same after another task."""

    before: ReturnValue[dict[str, int]]


class Served:
    """A client with workflows and a worker of this process."""

    def __init__(self) -> None:
        config = MageflowConfig(namespace=f"graphs{new_id()}".lower(), ttl=TTLConfig(done_ttl=60))
        self.client = make_client(config)
        self.notes = Notes()
        self.order = _order(self.client, self.notes)
        self.long = _long(self.client, self.notes)

        _dataclasses(self.client)

        @self.client.task(name="total")
        async def total(mageflow_results: dict[str, Any]) -> int:
            return sum(result.get("n", 0) for result in mageflow_results.values())

    async def runs(self, key: str) -> list[Any]:
        """Return the runs that Hatchet has of a signature."""
        listed = await self.client.runs.aio_list(additional_metadata={"mageflow_key": key}, only_tasks=False)
        return list(listed.rows)


def _order(client: Mageflow, notes: Notes) -> Any:
    """Two tasks side by side, a third after both, one that cleans up; the third fails at first, or always."""
    order: Any = client.workflow(name="order", input_validator=Number)

    @order.task()
    async def pay(message: Number, _ctx: Context) -> dict[str, int]:
        notes.add("pay", message.n)
        return {"n": message.n}

    @order.task()
    def pack(message: Number, _ctx: Context) -> dict[str, int]:
        notes.add("pack", message.n)
        return {"n": message.n + 1}

    @order.task(parents=[pay, pack], retries=1)
    async def send(message: Number, ctx: Context) -> dict[str, int]:
        notes.add("send", message.n)
        if message.n < 0 or ctx.retry_count == 0:
            text = "the van is away"
            raise ValueError(text)
        return {"n": ctx.task_output(pay)["n"] + ctx.task_output(pack)["n"]}

    @order.on_failure_task()
    async def tidy(message: Number, _ctx: Context) -> dict[str, int]:
        notes.add("tidy", message.n)
        return {"n": 0}

    return order


def _long(client: Mageflow, notes: Notes) -> Any:
    long: Any = client.workflow(name="long")

    @long.task()
    async def first(message: BaseModel, _ctx: Context) -> dict[str, int]:
        name = dict(message)["name"]
        notes.add(name, "started")
        try:
            while "go" not in notes.of(f"{name}, go"):
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            notes.add(name, "canceled")
            raise
        return {"n": 1}

    @long.task(parents=[first])
    async def second(message: BaseModel, _ctx: Context) -> dict[str, int]:
        notes.add(dict(message)["name"], "second")
        return {"n": 2}

    return long


@pytest.fixture(scope="module")
def worker(hatchet_environment: Address | None) -> Iterator[Served]:
    """A client whose worker serves every test of the module."""
    served = Served()
    with worker_thread(served.client):
        yield served


async def test_result_and_runs(served: Served) -> None:
    """A workflow's result is the results of its tasks by name, its tasks' retries are Hatchet's, and it is one run."""
    signature = await served.client.asign(served.order, n=5)
    results = {"pay": {"n": 5}, "pack": {"n": 6}, "send": {"n": 11}, "tidy-on-failure": {"skipped": True}}
    assert await signature.aio_run(timeout=DEADLINE) == results
    assert [served.notes.of(name).count(5) for name in ("pay", "pack", "send", "tidy")] == [1, 1, 2, 0]
    await eventually(lambda: _statuses_are(served, signature.key, ["COMPLETED"]), "one run is listed", DEADLINE)


async def _statuses_are(served: Served, key: str, statuses: list[str]) -> bool:
    return [run.status.value for run in await served.runs(key)] == statuses


async def test_member_of_containers(served: Served) -> None:
    """A workflow is a step of a chain and a member of a swarm, and what follows gets its result."""
    chain = await served.client.achain([await served.client.asign("order", n=7), "total"])
    assert await chain.aio_run(timeout=DEADLINE) == 7 + 8 + 15
    members = [await served.client.asign(served.order, n=n) for n in (20, 30, 40)]
    swarm = await served.client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    results = await swarm.aio_run(timeout=2 * DEADLINE)
    assert [result["pay"]["n"] for result in results] == [20, 30, 40]


async def test_callback(served: Served) -> None:
    """A workflow is a callback of a task."""
    template = await served.client.asign(served.order)
    signature = await served.client.asign("order", n=50, success_callbacks=[template])
    await signature.aio_run({"n": 51}, timeout=DEADLINE)
    await eventually(lambda: served.notes.of("pay").count(0) == 1, "the callback runs", DEADLINE)


async def test_exact_numbers(served: Served) -> None:
    """The tasks of a workflow get numbers as they were signed, though Hatchet's engine rounds them."""
    await (await served.client.asign(served.order, n=2**60 + 1)).aio_run(timeout=DEADLINE)
    assert 2**60 + 1 in served.notes.of("pay")


async def test_failure(served: Served) -> None:
    """A workflow fails with its run, after the last attempt, with what Hatchet says of it; cleaning up is Hatchet's."""
    signature = await served.client.asign(served.order, n=-3)
    with pytest.raises(FlowFailedError, match="the van is away") as failure:
        await signature.aio_run(timeout=DEADLINE)
    assert failure.value.type == "RunFailedError"
    assert [served.notes.of(name).count(-3) for name in ("pay", "send", "tidy")] == [1, 2, 1]


async def test_wrong_message(served: Served) -> None:
    """The message of a workflow is checked when it is signed, and when it is started."""
    with pytest.raises(InvalidMessageError, match="order"):
        await served.client.asign(served.order, n="no number")
    with pytest.raises(InvalidMessageError, match="order"):
        await (await served.client.asign(served.order)).aio_run_no_wait({"n": "no number"})


async def test_outside_of_a_flow(served: Served) -> None:
    """Outside a flow a workflow runs as without MageFlow."""
    results = {"pay": {"n": 60}, "pack": {"n": 61}, "send": {"n": 121}, "tidy-on-failure": {"skipped": True}}
    assert await served.order.aio_run(Number(n=60)) == results


async def test_interrupt_and_resume(served: Served) -> None:
    """Interrupt stops the tasks of a workflow and cancels its run; resume runs it again from its start."""
    signature = await served.client.asign(served.long, name="held")
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: "started" in served.notes.of("held"), "it starts", DEADLINE)
    await signature.interrupt()
    await eventually(lambda: "canceled" in served.notes.of("held"), "its code is stopped", DEADLINE)
    assert await handle.status() is Status.INTERRUPTED
    served.notes.add("held, go", "go")
    await signature.resume()
    assert await handle.result(DEADLINE) == {"first": {"n": 1}, "second": {"n": 2}}
    assert served.notes.of("held") == ["started", "canceled", "started", "second"]


async def test_canceled_at_hatchet(served: Served) -> None:
    """A run that is canceled at Hatchet cancels the signature."""
    signature = await served.client.asign(served.long, name="withdrawn")
    handle = await signature.aio_run_no_wait()
    await eventually(lambda: "started" in served.notes.of("withdrawn"), "it starts", DEADLINE)
    await eventually(lambda: _is_listed(served, signature.key), "its run is listed", DEADLINE)
    await served.client.runs.aio_cancel((await served.runs(signature.key))[0].workflow_run_external_id)
    await eventually(lambda: _is(handle, Status.CANCELED), "it is canceled", DEADLINE)
    assert "second" not in served.notes.of("withdrawn")


async def _is(handle: Any, status: Status) -> bool:
    return await handle.status() is status


async def _is_listed(served: Served, key: str) -> bool:
    return bool(await served.runs(key))


async def test_stubs(served: Served) -> None:
    """A stand-in for a task or workflow of another service is that one, if the service runs MageFlow."""
    elsewhere = make_client(MageflowConfig(namespace=served.client.config.namespace))
    order = elsewhere.stubs.workflow(name="order", input_validator=Number)
    total = elsewhere.stubs.task(name="total")
    chain = await elsewhere.achain([await elsewhere.asign(order, n=70), total])
    assert await chain.aio_run(timeout=DEADLINE) == 70 + 71 + 141
    with pytest.raises(UnrecognizedTaskError, match="totl"):
        await elsewhere.asign(elsewhere.stubs.task(name="totl"))
    await elsewhere.shutdown()


async def test_followed_by_another_worker(served: Served) -> None:
    """When the worker that follows a run ends, the run goes on and its outcome is found; nothing runs twice."""
    config = MageflowConfig(namespace=f"{served.client.config.namespace}x", ttl=TTLConfig(done_ttl=60))
    first, second = make_client(config), make_client(config)
    long = _long(first, served.notes)
    _long(second, served.notes)
    async with serve(second):
        async with serve(first):
            handle = await (await first.asign(long, name="passed on")).aio_run_no_wait()
            await eventually(lambda: "started" in served.notes.of("passed on"), "it starts", DEADLINE)
            served.notes.add("passed on, go", "go")
        assert await handle.result(2 * DEADLINE) == {"first": {"n": 1}, "second": {"n": 2}}
    assert served.notes.of("passed on") == ["started", "second"]
    await first.shutdown()


async def test_service_without_mageflow(served: Served) -> None:
    """A workflow that is declared here and served by plain Hatchet elsewhere is a signature: its end is asked for."""
    hatchet = Hatchet(config=ClientConfig(namespace=served.client.config.namespace))
    foreign = hatchet.workflow(name="foreign", input_validator=Number)

    @foreign.task()
    async def halve(message: Number, _ctx: Context) -> dict[str, int]:
        return {"n": message.n // 2}

    client = make_client(MageflowConfig(namespace=served.client.config.namespace))
    here = client.workflow(name="foreign", input_validator=Number)
    serving = in_thread(hatchet.worker("plain", workflows=[foreign]), hatchet)
    serving.__enter__()
    chain = await client.achain([await client.asign(here, n=8), "total"])
    assert await chain.aio_run(timeout=DEADLINE) == 4
    await client.shutdown()
    await asyncio.to_thread(serving.__exit__, None, None, None)


async def test_suspended_above(served: Served) -> None:
    """The tasks of a workflow that runs go on when its container is suspended: it ends, and counts at resume."""
    member = await served.client.asign(served.long, name="above")
    swarm = await served.client.aswarm([member], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await eventually(lambda: "started" in served.notes.of("above"), "it starts", DEADLINE)
    await swarm.suspend()
    served.notes.add("above, go", "go")
    await eventually(lambda: "second" in served.notes.of("above"), "its second task runs", DEADLINE)
    await swarm.resume()
    assert await handle.result(DEADLINE) == [{"first": {"n": 1}, "second": {"n": 2}}]
    assert served.notes.of("above") == ["started", "second"]


async def test_mock_run_of_plain_functions(hatchet_environment: Address | None) -> None:
    """Hatchet's `mock_run` runs plain functions as it does without flows, those of workflows too."""
    client = make_client(MageflowConfig(namespace=f"mock{new_id()}".lower()))
    await client.startup()
    workflow = client.workflow(name="steps", input_validator=Number)

    def half(message: Number, ctx: Context) -> dict[str, Any]:
        return {"half": message.n // 2, "attempt": ctx.attempt_number}

    alone = client.task(name="half", input_validator=Number)(half)
    step = workflow.task()(half)
    assert alone.mock_run(Number(n=4), retry_count=1) == {"half": 2, "attempt": 2}
    assert step.mock_run(Number(n=6)) == {"half": 3, "attempt": 1}
    await client.shutdown()  # the thread that they ran in ends with it


def _dataclasses(client: Mageflow) -> None:
    @client.task(name="measure", input_validator=Length)
    async def measure(message: Length) -> dict[str, int]:
        return {message.names[0]: message.meters}

    @client.task(name="twice", input_validator=Doubled)
    async def twice(message: Doubled) -> dict[str, int]:
        return {name: meters * 2 for name, meters in message.before.items()}

    workflow = client.workflow(name="measures", input_validator=Length)

    @workflow.task(name="only")
    async def only(message: Length, ctx: Context) -> dict[str, int]:
        return {message.names[0]: message.meters}


async def test_dataclasses_as_messages(served: Served) -> None:
    """`input_validator` may be a dataclass, as Hatchet takes it: messages are checked, fields are injected."""
    chain = await served.client.achain(["measure", "twice"])
    assert await chain.aio_run({"meters": 2}, timeout=DEADLINE) == {"l": 4}
    workflow = await served.client.asign("measures", names=["w"])
    assert await workflow.aio_run({"meters": 3}, timeout=DEADLINE) == {"only": {"w": 3}}
    with pytest.raises(InvalidMessageError, match="meters"):
        await served.client.asign("measure", meters="far")
