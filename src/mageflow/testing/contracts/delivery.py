"""What is submitted arrives, once, wherever a worker is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mageflow import Status, SwarmConfig
from mageflow.backends.base import Verdict
from mageflow.errors import UnrecognizedTaskError
from mageflow.flow.ids import new_id
from mageflow.testing.contracts.base import Contract
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.contracts.tasks import nothing
from mageflow.testing.waiting import DEADLINE, eventually


class DeliveryContract(Contract):
    """Submission and delivery: whole, once, in any number, to whoever has the function."""

    async def test_a_task_runs_once(self, stage: Stage) -> None:
        """What was submitted runs once and its result comes back."""
        assert await stage.run("echo", {"n": 1}) == {"n": 1}
        assert stage.ledger.of("echo") == [{"n": 1}]

    async def test_many_at_once(self, stage: Stage) -> None:
        """More than the backend takes in one go: each runs once, results come in order, the last one included."""
        capabilities = await stage.capabilities()
        count = min(capabilities.bulk + 20, 250)
        members = [await stage.client.asign("add", a=n, b=0) for n in range(count)]
        swarm = await stage.client.aswarm(members, config=SwarmConfig(max_concurrency=None), is_swarm_closed=True)
        assert await stage.result(await swarm.aio_run_no_wait(), 3 * DEADLINE) == list(range(count))
        ran = sorted(note["a"] for note in stage.ledger.of("add"))
        assert ran == list(range(count)), f"{len(ran)} runs for {count} members"

    async def test_one_answer_for_each_dispatch(self, stage: Stage) -> None:
        """`submit` answers in order, once for each dispatch of the batch, and takes an empty batch."""
        signature = await stage.client.asign("echo")
        await stage.result(await signature.aio_run_no_wait({"n": 1}))
        dispatch = await stage.dispatch_of(signature, {"n": 1})
        backend = (await stage.engine()).backend
        submissions = await backend.submit([replace(dispatch, id=new_id()) for _ in range(3)])
        assert [submission.verdict for submission in submissions] == [Verdict.ACCEPTED] * 3
        assert list(await backend.submit([])) == []

    async def test_delivered_again_while_it_runs(self, stage: Stage) -> None:
        """A second delivery of a task that runs is turned away; the first goes on."""
        signature = await stage.client.asign("wait", gate="first")
        handle = await signature.aio_run_no_wait()
        await stage.noted("wait", "first started")
        dispatch = await stage.dispatch_of(signature, {"gate": "first"})
        await stage.deliver(dispatch)
        assert await stage.turned_away(dispatch) == ["duplicate"]
        stage.ledger.open("first")
        assert await stage.result(handle) == "first"
        assert stage.ledger.of("wait") == ["first started", "first ended"]

    async def test_delivered_again_after_its_end(self, stage: Stage) -> None:
        """A delivery of what has ended is turned away: nothing runs or fires twice."""
        template = await stage.client.asign("on-success", label="again")
        signature = await stage.client.asign("add", a=1, success_callbacks=[template])
        assert await stage.result(await signature.aio_run_no_wait()) == 2
        dispatch = await stage.dispatch_of(signature, {"a": 1})
        await stage.deliver(dispatch)
        await stage.deliver(dispatch)
        assert await stage.turned_away(dispatch, 2) == ["ended", "ended"]
        assert await stage.settled("on-success", 1) == [["again", 2]]
        assert len(stage.ledger.of("add")) == 1

    async def test_late_delivery(self, stage: Stage) -> None:
        """A delivery from before an interrupt, that comes after the resume, is turned away."""
        signature = await stage.client.asign("wait", gate="late")
        handle = await signature.aio_run_no_wait()
        await stage.noted("wait", "late started")
        dispatch = await stage.dispatch_of(signature, {"gate": "late"})
        await signature.interrupt()
        await stage.noted("wait", "late stopped")
        await signature.resume()
        await stage.noted("wait", "late started", 2)
        await stage.deliver(dispatch)
        assert await stage.turned_away(dispatch) == ["stale"]
        stage.ledger.open("late")
        assert await stage.result(handle) == "late"
        assert stage.ledger.count("wait", "late ended") == 1

    async def test_delivery_of_what_is_gone(self, stage: Stage) -> None:
        """A message of a signature that is gone never runs as if it belonged to no flow."""
        signature = await stage.client.asign("echo")
        await stage.result(await signature.aio_run_no_wait({"n": 1}))
        gone = replace(await stage.dispatch_of(signature, {"n": 1}), id=new_id(), message={"n": "gone"})
        await stage.deliver(gone)
        assert await stage.turned_away(gone) == ["gone"]
        assert stage.ledger.of("echo") == [{"n": 1}]

    async def test_unknown_task_is_refused(self, stage: Stage) -> None:
        """A name that nobody registered is refused when it is signed, with the closest names."""
        with pytest.raises(UnrecognizedTaskError, match=r"ecko.*echo"):
            await stage.client.asign("ecko")

    async def test_task_that_no_worker_has(self, stage: Stage) -> None:
        """A task that is known and served by nobody stays parked and visible, holds up nobody, and can be canceled."""
        other = await stage.add_client()
        other.task(name="elsewhere")(nothing)
        await eventually(lambda: _is_known(stage, "elsewhere"), "the task is known in the namespace")
        signature = await stage.client.asign("elsewhere")
        handle = await signature.aio_run_no_wait()
        assert await stage.run("add", a=1) == 2
        wait = await stage.client.why(signature.key)
        assert wait is not None
        assert wait.kind == "row", f"it waits on {wait}"
        assert await signature.cancel() is Status.CANCELED
        assert await handle.status() is Status.CANCELED

    async def test_started_before_there_is_a_worker(self, idle: Stage) -> None:
        """What was submitted while nobody served runs once a worker is there."""
        handles = [await idle.start("echo", {"n": n}) for n in range(3)]
        assert [await handle.status() for handle in handles] == [Status.PENDING] * 3
        async with idle.subject.serve(idle.client):
            assert [await idle.result(handle, 2 * DEADLINE) for handle in handles] == [{"n": n} for n in range(3)]
        assert sorted(note["n"] for note in idle.ledger.of("echo")) == [0, 1, 2]

    async def test_signed_by_name_elsewhere(self, stage: Stage) -> None:
        """A client that has no function and runs nothing signs by name, with the retries of the task."""
        other = await stage.add_client()
        assert await (await other.asign("add", a=2)).aio_run(timeout=DEADLINE) == 3
        flaky = await (await other.asign("flaky", name="far", failures=2)).aio_run_no_wait()
        assert await stage.result(flaky) == "far"
        assert stage.ledger.count("flaky", "far") == 3

    async def test_signed_by_name_object_and_function(self, stage: Stage) -> None:
        """A task is meant by its name, by what the decorator returned, and by its function."""
        for thing in ("total", stage.tasks.made["total"], stage.tasks.functions["total"]):
            assert await stage.run(thing, a=2, b=3) == {"total": 5}, f"signed by {thing!r}"


async def _is_known(stage: Stage, name: str) -> bool:
    try:
        await stage.client.asign(name)
    except UnrecognizedTaskError:
        return False
    return True
