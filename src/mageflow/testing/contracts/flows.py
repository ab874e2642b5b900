"""Chains, swarms and tasks that make flows, on this task manager."""

from __future__ import annotations

from mageflow import Status, SwarmConfig
from mageflow.testing.contracts.base import Contract
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.waiting import eventually


class FlowContract(Contract):
    """Whole flows: each step once, in order, bounded."""

    async def test_chain(self, stage: Stage) -> None:
        """Steps run one after the other, each with the result of the one before; the chain's callback gets the last."""
        template = await stage.client.asign("on-success", label="chain")
        first = await stage.client.asign("give", value="a")
        steps = [await stage.client.asign("append", more=str(n)) for n in range(5)]
        chain = await stage.client.achain([first, *steps], success=template)
        assert await stage.result(await chain.aio_run_no_wait()) == "a01234"
        assert [note["text"] for note in stage.ledger.of("append")] == ["a", "a0", "a01", "a012", "a0123"]
        assert await stage.settled("on-success", 1) == [["chain", "a01234"]]

    async def test_callbacks_are_copies(self, stage: Stage) -> None:
        """One template serves many: each firing runs a copy with the result of the one that fired it."""
        template = await stage.client.asign("on-success", label="each", success_callbacks=["measure"])
        members = [await stage.client.asign("add", a=n, b=0, success_callbacks=[template]) for n in range(5)]
        swarm = await stage.client.aswarm(members, is_swarm_closed=True)
        assert await stage.result(await swarm.aio_run_no_wait()) == [0, 1, 2, 3, 4]
        assert sorted(await stage.settled("on-success", 5)) == [["each", n] for n in range(5)]
        assert await stage.settled("measure", 5) == [len("each")] * 5

    async def test_bound_of_a_swarm(self, stage: Stage) -> None:
        """At most `max_concurrency` members run at any moment; as one ends the next one starts."""
        members = [await stage.client.asign("wait", gate=f"g{n}") for n in range(6)]
        swarm = await stage.client.aswarm(members, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
        handle = await swarm.aio_run_no_wait()
        for n in range(6):
            await stage.noted("wait", f"g{n} started")
            stage.ledger.open(f"g{n}")
        assert await stage.result(handle) == [f"g{n}" for n in range(6)]
        assert most_at_a_time(stage.ledger.of("wait")) <= 2, f"{stage.ledger}"

    async def test_swarm_that_grows(self, stage: Stage) -> None:
        """A running swarm takes members from any client until it is closed; results come in order of their adding."""
        swarm = await stage.client.aswarm([await stage.client.asign("add", a=0, b=0)])
        handle = await swarm.aio_run_no_wait()
        other = await stage.add_client()
        elsewhere = await other.load_signature(swarm.key)
        assert elsewhere is not None
        for n in range(1, 4):
            await swarm.aio_run_in_swarm(await other.asign("add", a=n, b=0))
        assert await handle.status() is Status.ACTIVE
        await swarm.close_swarm()
        assert await stage.result(handle) == [0, 1, 2, 3]

    async def test_map(self, stage: Stage) -> None:
        """A map runs its task for each message; a stopped item runs again, one that waits may be canceled."""
        items = [{"gate": f"g{n}"} for n in range(5)]
        mapped = await stage.client.amap("wait", items, config=SwarmConfig(max_concurrency=2))
        handle = await mapped.aio_run_no_wait()
        await stage.noted("wait", "g0 started")
        await stage.client.cancel(f"{mapped.key}#3")
        await stage.client.interrupt(f"{mapped.key}#0")
        await stage.noted("wait", "g0 stopped")
        await stage.client.resume(f"{mapped.key}#0")
        for n in range(5):
            stage.ledger.open(f"g{n}")
        assert await stage.result(handle) == ["g0", "g1", "g2", "g4"]
        assert [result async for result in mapped.results(2)] == ["g2", "g4"]

    async def test_failure_budget(self, stage: Stage) -> None:
        """At the n-th failed member the swarm fails, once; running members are stopped where that was asked for."""
        swarm = await stage.client.aswarm(
            [await stage.client.asign("wait", gate="never")],
            config=SwarmConfig(max_concurrency=2, stop_after_n_failures=2, on_stop="interrupt"),
            error_callbacks=["on-error"],
        )
        handle = await swarm.aio_run_no_wait()
        await stage.noted("wait", "never started")
        await swarm.aio_run_in_swarm(["fail", "fail", "echo", "echo", "echo"])
        error = await stage.failure(handle)
        assert error.type == "BrokenError"
        await stage.noted("wait", "never stopped")
        [note] = await stage.settled("on-error", 1)
        assert note["error"]["key"] == swarm.key
        assert stage.ledger.of("echo") == []

    async def test_containers_in_containers(self, stage: Stage) -> None:
        """A swarm of chains as the step of a chain: results join in order and go on."""
        chains = [
            await stage.client.achain([await stage.client.asign("give", value=f"{n}"), "append"]) for n in range(4)
        ]
        swarm = await stage.client.aswarm(chains, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
        flow = await stage.client.achain([swarm, "echo"])
        assert await stage.result(await flow.aio_run_no_wait()) == {"mageflow_results": ["0.", "1.", "2.", "3."]}

    async def test_task_that_makes_a_flow(self, stage: Stage) -> None:
        """A task that makes and starts a flow and is then retried has made and started it once."""
        key = await stage.run("plan", name="p", failures=1)
        made = await stage.client.load_signature(key)
        assert made is not None
        assert await stage.result(made.handle) == [{"name": "p", "part": part} for part in range(3)]
        assert stage.ledger.of("plan") == ["p", "p"]
        assert len(await stage.settled("echo", 3)) == 3

    async def test_transaction(self, stage: Stage) -> None:
        """What a transaction starts runs after its exit; what it drops never runs."""
        async with stage.client.abounded_field():
            chain = await stage.client.achain([await stage.client.asign("add", a=1), "echo"])
            handle = await chain.aio_run_no_wait()
            await eventually(lambda: stage.ledger.of("add") == [], "nothing runs before the exit")
        assert await stage.result(handle) == {"mageflow_results": 2}


def most_at_a_time(notes: list[str]) -> int:
    """Return how many of the tasks that noted `... started` and `... ended` ran at the same time at the most."""
    running, most = 0, 0
    for note in notes:
        running += {"started": 1}.get(note.rpartition(" ")[2], -1)
        most = max(most, running)
    return most
