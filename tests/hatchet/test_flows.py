"""What is special about flows on Hatchet: its runs, its pages, its own cancels and time-outs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hatchet_sdk import ClientConfig, EmptyModel, FailedTaskRunExceptionGroup, Hatchet, TriggerWorkflowOptions

from mageflow import Mageflow, MageflowConfig, Status, SwarmConfig, TTLConfig
from mageflow.errors import FlowCanceledError, FlowFailedError, InvalidArgumentError
from mageflow.flow.ids import new_id
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.subjects import make_client, worker_thread
from tests.hatchet.tasks import Notes, Number, register

# Hatchet's client waits for results on the first loop that it meets: the module has one.
pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
DEADLINE = 30.0


class Served:
    """A client with a worker of this process; its tasks, as a client without a worker runs them."""

    def __init__(self, client: Mageflow, notes: Notes, tasks: dict[str, Any]) -> None:
        self.client = client
        self.notes = notes
        self.tasks = tasks

    async def runs(self, key: str) -> list[Any]:
        """Return the runs that Hatchet has of a signature or flow, newest last."""
        found: dict[str, Any] = {}
        for name in ("mageflow_key", "mageflow_flow"):
            listed = await self.client.runs.aio_list(additional_metadata={name: key})
            found |= {row.task_external_id: row for row in listed.rows}
        return sorted(found.values(), key=lambda row: row.created_at)

    async def started(self, name: str, count: int = 1) -> None:
        """Wait until a task has started so often."""
        await eventually(lambda: self.notes.of(name).count("started") >= count, f"{name} starts", DEADLINE)

    async def cancel_at_hatchet(self, key: str) -> None:
        """Cancel the newest run of a signature, as Hatchet's pages do."""
        await eventually(lambda: self._is_listed(key), "the run is listed", DEADLINE)
        await self.client.runs.aio_cancel((await self.runs(key))[-1].workflow_run_external_id)

    async def _is_listed(self, key: str) -> bool:
        return bool(await self.runs(key))


@pytest.fixture(scope="module")
def worker(hatchet_environment: Address | None) -> Iterator[Served]:
    """A client whose worker serves every test of the module."""
    config = MageflowConfig(namespace=f"flows{new_id()}".lower(), ttl=TTLConfig(done_ttl=60))
    client, notes = make_client(config), Notes()
    register(client, notes)
    # Hatchet's client waits for results on one loop only: the worker's own tasks do so on that of the worker.
    served = Served(client, notes, register(make_client(config), Notes()))

    async def lifespan() -> AsyncIterator[str]:
        yield "of the worker"

    with worker_thread(client, lifespan=lifespan):
        yield served


async def test_one_run_for_each_task(served: Served) -> None:
    """A flow has one run at Hatchet for each task and none beside; each can be found by its flow."""
    members = [await served.client.asign("double", n=n) for n in range(4)]
    swarm = await served.client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    assert await swarm.aio_run(timeout=DEADLINE) == [0, 2, 4, 6]
    await eventually(lambda: _has_count(served, swarm.key, 4), "four runs are listed", DEADLINE)
    runs = await served.runs(swarm.key)
    assert {run.additional_metadata["mageflow_key"] for run in runs} == {member.key for member in members}
    assert {run.additional_metadata["mageflow_container"] for run in runs} == {swarm.key}
    assert sorted(run.input["input"]["n"] for run in runs) == [0, 1, 2, 3]


async def _has_count(served: Served, key: str, count: int) -> bool:
    return len(await served.runs(key)) == count


async def test_run_is_in_the_record(served: Served) -> None:
    """From a signature one comes to Hatchet's run, from the run to the signature."""
    signature = await served.client.asign("look", n=1)
    result = await signature.aio_run(timeout=DEADLINE)
    store = (await served.client._host.open()).store
    assert await store.manager_run(signature.id) == result["run"]
    assert result["metadata"]["mageflow_key"] == signature.key


async def test_context_and_lifespan(served: Served) -> None:
    """Hatchet's context in a flow is that of a plain run: lifespan, priority, metadata of the user."""
    options = TriggerWorkflowOptions(additional_metadata={"customer": "ann"}, priority=3)
    signature = await served.client.asign("look", n=1)
    inside = await signature.aio_run(timeout=DEADLINE, options=options)
    outside = await served.tasks["look"].aio_run(Number(n=1), additional_metadata={"customer": "ann"}, priority=3)
    assert inside["metadata"]["customer"] == outside["metadata"]["customer"] == "ann"
    for name in ("n", "priority", "lifespan"):
        assert inside[name] == outside[name], name
    assert inside["lifespan"] == "of the worker"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (TriggerWorkflowOptions(sticky=True), "field 'sticky'"),
        (TriggerWorkflowOptions(key="a"), "field 'key'"),
        ({"priority": "urgent"}, "field 'priority'"),
        ({"prio": 1}, "'prio'"),
    ],
)
async def test_options_that_hatchet_would_not_get(served: Served, options: Any, named: str) -> None:
    """An option that would get lost on the way is refused at the call, by its name; the signature can be run after."""
    signature = await served.client.asign("double", n=1)
    with pytest.raises(InvalidArgumentError, match=named):
        await signature.aio_run_no_wait(options=options)
    with pytest.raises(InvalidArgumentError, match=named):
        await served.client.asign("double", options=options)
    assert await signature.aio_run(options={"sticky": False, "child_key": None}, timeout=DEADLINE) == 2


async def test_child_of_a_task(served: Served) -> None:
    """What a task of a flow runs by Hatchet itself is a child of its run as ever, and no delivery of the flow."""
    signature = await served.client.asign("parent", n=4)
    options = TriggerWorkflowOptions(additional_metadata={"customer": "ann"})
    result = await signature.aio_run(timeout=DEADLINE, options=options)
    assert result["double"] == {"mageflow_result": 8}
    assert result["look"]["n"] == 4
    assert result["look"]["metadata"]["customer"] == "ann"
    assert result["look"]["parent"] == await (await served.client._host.open()).store.manager_run(signature.id)


async def test_start_with_a_parent(served: Served) -> None:
    """A signature may be started as a child of a run, and is a delivery of its flow all the same."""
    parent = (await served.tasks["look"].aio_run(Number(n=1)))["run"]
    signature = await served.client.asign("look", n=5)
    options = TriggerWorkflowOptions(parent_id=parent, parent_step_run_id=parent)
    result = await signature.aio_run(timeout=DEADLINE, options=options)
    assert result["n"] == 5
    assert result["parent"] == parent


async def test_successor_is_no_child(served: Served) -> None:
    """What a flow starts after a task is no child of its run, and does not inherit its metadata."""
    chain = await served.client.achain(["double", await served.client.asign("look")])
    result = await chain.aio_run({"n": 2}, timeout=DEADLINE)
    assert not result["parent"]
    assert result["metadata"]["mageflow_dispatch"] == "1"


async def test_plain_run(served: Served) -> None:
    """Outside a flow a task runs, and its input is checked, as without MageFlow; a number is put into a mapping."""
    assert await served.tasks["double"].aio_run(Number(n=4)) == {"mageflow_result": 8}
    assert await served.tasks["depend"].aio_run(Number(n=4)) == {"got": "dependency of 4", "attempt": 1}
    with pytest.warns(UserWarning, match="no number"):
        ref = await served.tasks["look"].aio_run(Number.model_construct(n="no number"), wait_for_result=False)
    with pytest.raises(FailedTaskRunExceptionGroup):
        await ref.aio_result()


async def test_dependencies(served: Served) -> None:
    """Dependencies are filled in flows; one that fails before the task's code began fails the signature."""
    good = await served.client.asign("depend", n=1)
    assert await good.aio_run(timeout=DEADLINE) == {"got": "dependency of 1", "attempt": 1}
    bad = await served.client.asign("depend", n=-1)
    with pytest.raises(FlowFailedError) as failure:
        await bad.aio_run(timeout=DEADLINE)
    assert failure.value.type == "RunFailedError"
    assert "the dependency fails" in failure.value.message


async def test_canceled_at_hatchet(served: Served) -> None:
    """A run that is canceled at Hatchet while its code runs cancels the signature, and its flow goes on with that."""
    member = await served.client.asign("sleep", name="canceled at hatchet")
    swarm = await served.client.aswarm([member, await served.client.asign("double", n=1)], is_swarm_closed=True)
    handle = await swarm.aio_run_no_wait()
    await served.started("canceled at hatchet")
    await served.cancel_at_hatchet(member.key)
    assert await handle.result(DEADLINE) == [2]
    assert "canceled" in served.notes.of("canceled at hatchet")
    await member.arefresh()
    assert member.task_status is Status.CANCELED


async def test_thread_is_canceled_at_hatchet(served: Served) -> None:
    """A thread cannot be stopped: the signature is canceled when it has returned, and its result discarded."""
    signature = await served.client.asign("sleep-thread", name="thread")
    handle = await signature.aio_run_no_wait()
    await served.started("thread")
    await served.cancel_at_hatchet(signature.key)
    await eventually(lambda: _is(handle, Status.CANCELED), "it is canceled", DEADLINE)
    assert served.notes.of("thread") == ["started", "returned"]


@pytest.mark.parametrize("raises", [False, True])
async def test_leaves_when_canceled_at_hatchet(served: Served, *, raises: bool) -> None:
    """What a task returns or raises because it saw the cancel is no outcome: the signature is canceled."""
    name = f"leaves {raises}"
    signature = await served.client.asign("leave", name=name, raises=raises)
    handle = await signature.aio_run_no_wait()
    await served.started(name)
    await served.cancel_at_hatchet(signature.key)
    with pytest.raises(FlowCanceledError):
        await handle.result(DEADLINE)
    assert served.notes.of(name) == ["started", "left"]


async def test_leaves_when_its_time_is_up(served: Served) -> None:
    """What a task returns because it saw that its time is up is no outcome; another attempt may have started before."""
    handle = await (await served.client.asign("leave", name="out of time")).aio_run_no_wait()
    with pytest.raises(FlowFailedError) as failure:
        await handle.result(4 * DEADLINE)  # an engine may take half a minute to retry what timed out
    assert failure.value.type == "TimeoutError"
    assert sorted(served.notes.of("out of time")) == ["left", "left", "started", "started"]


async def _is(handle: Any, status: Status) -> bool:
    return await handle.status() is status


async def test_interrupt_cancels_the_run(served: Served) -> None:
    """Interrupt stops the code and cancels Hatchet's run; resume starts another run, and the flow ends well."""
    signature = await served.client.asign("sleep", name="interrupted", seconds=2.0)
    handle = await signature.aio_run_no_wait()
    await served.started("interrupted")
    await signature.interrupt()
    await eventually(lambda: "canceled" in served.notes.of("interrupted"), "its code is stopped", DEADLINE)
    await eventually(lambda: _statuses_are(served, signature.key, ["CANCELLED"]), "its run is canceled", DEADLINE)
    assert await handle.status() is Status.INTERRUPTED
    await signature.resume()
    assert await handle.result(DEADLINE) == "interrupted"
    await eventually(lambda: _statuses_are(served, signature.key, ["CANCELLED", "COMPLETED"]), "two runs", DEADLINE)


async def _statuses_are(served: Served, key: str, statuses: list[str]) -> bool:
    return [run.status.value for run in await served.runs(key)] == statuses


async def test_cancel_cancels_the_run(served: Served) -> None:
    """Cancel stops the code and cancels Hatchet's run."""
    signature = await served.client.asign("sleep", name="canceled")
    await signature.aio_run_no_wait()
    await served.started("canceled")
    await signature.cancel()
    await eventually(lambda: _statuses_are(served, signature.key, ["CANCELLED"]), "its run is canceled", DEADLINE)


async def test_replay_at_hatchet(served: Served) -> None:
    """A run of an ended signature that is replayed at Hatchet runs no code of the task and changes nothing."""
    signature = await served.client.asign("sleep", name="replayed", seconds=0)
    handle = await signature.aio_run_no_wait()
    assert await handle.result(DEADLINE) == "replayed"
    await eventually(lambda: _statuses_are(served, signature.key, ["COMPLETED"]), "it is listed", DEADLINE)
    [run] = await served.runs(signature.key)
    await served.client.runs.aio_replay(run.workflow_run_external_id)
    await eventually(lambda: _was_turned_away(served, signature.key), "it is turned away", DEADLINE)
    assert served.notes.of("replayed") == ["started"]
    assert await handle.status() is Status.DONE


async def _was_turned_away(served: Served, key: str) -> bool:
    [run] = await served.runs(key)
    return run.output == {"mageflow": "not run: ended"}


async def test_durable_task_is_replayed(served: Served) -> None:
    """A durable task that is put to sleep and replayed creates and starts its flow once."""
    signature = await served.client.asign("plan", n=5)
    result = await signature.aio_run(timeout=DEADLINE)
    assert result["results"] == [10, 12]
    await eventually(lambda: _has_count(served, result["key"], 2), "two runs are listed", DEADLINE)


async def test_retried_task_outside_of_a_flow_creates_once(served: Served) -> None:
    """A task that was run by itself and is retried by Hatchet finds what its first attempt created and started."""
    result = await served.tasks["plan-again"].aio_run(Number(n=7))
    first, second = served.notes.of("plan again")
    assert first == second == result["key"]
    await eventually(lambda: _has_count(served, result["key"], 1), "one run is listed", DEADLINE)


async def test_null_character(served: Served) -> None:
    """A message that Hatchet's database cannot hold is refused with the reason; the others of its bulk run."""
    members = [await served.client.asign("sleep", name=name, seconds=0) for name in ("a", "\0", "b")]
    swarm = await served.client.aswarm(members, is_swarm_closed=True)
    assert await swarm.aio_run(timeout=DEADLINE) == ["a", "b"]
    await members[1].arefresh()
    assert members[1].task_status is Status.FAILED


async def test_unknown_to_hatchet(served: Served) -> None:
    """A task that no worker ever brought to Hatchet waits, visibly, and its bulk goes on; it starts with its worker."""
    config = MageflowConfig(namespace=served.client.config.namespace)
    other = make_client(config)

    @other.task(name="young")
    async def young(n: int = 0) -> int:
        return n + 1

    await other.startup()
    handle = await (await other.asign(young, n=1)).aio_run_no_wait()
    known = await served.client.asign("double", n=1)
    assert await known.aio_run(timeout=DEADLINE) == 2
    wait = await other.why(handle.key)
    assert wait is not None
    assert wait.kind == "row"
    with worker_thread(other):
        assert await handle.result(DEADLINE) == 2
    await other.shutdown()


async def test_many_at_once(served: Served) -> None:
    """A bulk of many runs ends with every result in its place."""
    members = [await served.client.asign("double", n=n) for n in range(100)]
    handles = await asyncio.gather(*(member.aio_run_no_wait() for member in members))
    assert [await handle.result(DEADLINE) for handle in handles] == [n * 2 for n in range(100)]


async def test_late_delivery_of_what_was_dispatched_anew(served: Served) -> None:
    """A run that was given up and comes back as a further attempt of Hatchet's runs no code: another took its place."""
    signature = await served.client.asign("sleep", name="late")
    handle = await signature.aio_run_no_wait()
    await served.started("late")
    await signature.interrupt()
    await eventually(lambda: "canceled" in served.notes.of("late"), "its code is stopped", DEADLINE)
    await eventually(lambda: _statuses_are(served, signature.key, ["CANCELLED"]), "its run is canceled", DEADLINE)
    [old] = await served.runs(signature.key)
    await signature.resume()
    await served.started("late", 2)
    await served.client.runs.aio_replay(old.workflow_run_external_id)
    await eventually(lambda: _first_says(served, signature.key, "not run: stale"), "it is turned away", DEADLINE)
    assert served.notes.of("late").count("started") == 2
    assert await handle.status() is Status.ACTIVE
    await signature.cancel()


async def _first_says(served: Served, key: str, note: str) -> bool:
    return (await served.runs(key))[0].output == {"mageflow": note}


async def _unserved(served: Served, name: str, **options: Any) -> Mageflow:
    """Return a client with a task that Hatchet knows and that no worker serves."""
    client = make_client(MageflowConfig(namespace=served.client.config.namespace))

    @client.task(name=name, **options)
    async def task(n: int = 0) -> int:
        return n + 1

    client._backend.manager._client.admin.put_workflow(task.to_proto())
    await client.startup()
    return client


@pytest.mark.parametrize("patience", [5, 300])
async def test_queued_run_is_canceled_at_hatchet(served: Served, patience: int) -> None:
    """A run that is canceled at Hatchet while it waits for a worker cancels the signature, which nobody reports."""
    client = await _unserved(served, f"queued-{patience}", schedule_timeout=timedelta(seconds=patience))
    handle = await (await client.asign(f"queued-{patience}")).aio_run_no_wait()
    await served.cancel_at_hatchet(handle.key)
    await eventually(lambda: _is(handle, Status.CANCELED), "it is canceled", DEADLINE)
    await client.shutdown()


async def test_schedule_timeout(served: Served) -> None:
    """A run that found no worker in time is dispatched again, and runs once there is one."""
    client = await _unserved(served, "rare", schedule_timeout=timedelta(seconds=1))
    handle = await (await client.asign("rare", n=1)).aio_run_no_wait()
    await eventually(lambda: _has_count(served, handle.key, 2), "a second run is listed", DEADLINE)
    with worker_thread(client):
        assert await handle.result(DEADLINE) == 2
    await client.shutdown()


async def test_scheduled_outside_of_a_flow(served: Served) -> None:
    """A run that is scheduled at Hatchet is a plain one."""
    when = datetime.now(UTC) + timedelta(seconds=0.5)
    await served.tasks["sleep"].aio_schedule(when, EmptyModel.model_validate({"name": "scheduled", "seconds": 0}))
    await served.started("scheduled")


async def test_event_outside_of_a_flow(served: Served) -> None:
    """A run that an event starts is a plain one."""
    await served.client.event.aio_push("sleep:asked", {"name": "asked", "seconds": 0})
    await served.started("asked")


async def test_names_of_the_client(served: Served) -> None:
    """Every public name of Hatchet's client is there and of its kind but `config`, which is of the flows."""
    plain = Hatchet(config=ClientConfig(namespace="plain"))
    names = [name for name in dir(plain) if not name.startswith("_")]
    missing = [name for name in names if not hasattr(served.client, name)]
    assert missing == []
    attributes = [name for name in names if not callable(getattr(plain, name))]
    others = [name for name in attributes if not isinstance(getattr(served.client, name), type(getattr(plain, name)))]
    assert others == ["config"]
