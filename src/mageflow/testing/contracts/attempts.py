"""Attempts, errors, and what follows from them."""

from __future__ import annotations

from itertools import product

import pytest

from mageflow import Status
from mageflow.testing.contracts.base import Contract
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.contracts.tasks import ODD_ERRORS, RETRIES, TIME_LIMIT
from mageflow.testing.waiting import DEADLINE


class AttemptContract(Contract):
    """Retries are the task manager's; the flow goes on after the last attempt, once."""

    async def test_retried_until_it_succeeds(self, stage: Stage) -> None:
        """An attempt that will be repeated is no failure of the flow: callbacks fire once, for the success."""
        template = await stage.client.asign("on-success", label="flaky")
        signature = await stage.client.asign(
            "flaky", name="f", failures=RETRIES, success_callbacks=[template], error_callbacks=["on-error"]
        )
        chain = await stage.client.achain([signature, "echo"])
        assert await stage.result(await chain.aio_run_no_wait()) == {"mageflow_results": "f"}
        assert await stage.settled("on-success", 1) == [["flaky", "f"]]
        assert stage.ledger.of("flaky") == ["f"] * (RETRIES + 1)
        assert stage.ledger.of("on-error") == []

    async def test_last_attempt_fails(self, stage: Stage) -> None:
        """After the last attempt the task has failed: error callbacks fire once, with message and last error."""
        signature = await stage.client.asign("flaky", name="f", error_callbacks=["on-error"])
        error = await stage.failure(await signature.aio_run_no_wait({"failures": 9}))
        assert (error.type, error.message) == ("BrokenError", f"f fails for the {RETRIES + 1}. time")
        assert stage.ledger.of("flaky") == ["f"] * (RETRIES + 1)
        [note] = await stage.settled("on-error", 1)
        assert (note["name"], note["failures"]) == ("f", 9)
        assert note["error"]["message"] == error.message
        assert note["error"]["task_name"] == "flaky"
        assert note["error"]["key"] == signature.key
        assert "BrokenError" in note["error"]["traceback"]

    async def test_no_retries_unless_asked_for(self, stage: Stage) -> None:
        """A task without retries runs once, whatever the task manager's default is."""
        error = await stage.failure(await stage.start("fail", {"text": "at once"}))
        assert (error.type, error.message) == ("BrokenError", "at once")
        assert len(stage.ledger.of("fail")) == 1

    async def test_error_callbacks_of_many(self, stage: Stage) -> None:
        """Each failed task fires its own callbacks, with its own message over which the callback's arguments win."""
        template = await stage.client.asign("on-error", level="high", n=-1)
        members = [await stage.client.asign("fail", text=f"t{n}", error_callbacks=[template]) for n in range(10)]
        swarm = await stage.client.aswarm(members, is_swarm_closed=True)
        assert await stage.result(await swarm.aio_run_no_wait({"n": 5, "level": "low"})) == []
        notes = await stage.settled("on-error", 10)
        assert sorted(note["text"] for note in notes) == sorted(f"t{n}" for n in range(10))
        assert {(note["n"], note["level"]) for note in notes} == {(-1, "high")}
        assert all(note["error"]["message"] == note["text"] for note in notes), notes

    async def test_no_point_in_a_retry(self, stage: Stage) -> None:
        """`NonRetryableError` ends the attempts at once."""
        signature = await stage.client.asign("fatal", name="f", error_callbacks=["on-error"])
        error = await stage.failure(await signature.aio_run_no_wait())
        assert (error.type, error.message) == ("NonRetryableError", "there is no point")
        assert stage.ledger.of("fatal") == ["f"]
        await stage.settled("on-error", 1)

    async def test_time_limit(self, stage: Stage) -> None:
        """A task that takes longer than its time limit is stopped; that is a failed attempt, the last one a failure."""
        signature = await stage.client.asign("hurry", gate="never", error_callbacks=["on-error"])
        error = await stage.failure(await signature.aio_run_no_wait(), DEADLINE + 2 * TIME_LIMIT)
        assert "Timeout" in error.type, f"{error.type}: {error.message}"
        await stage.noted("hurry", "never stopped", 2)
        assert stage.ledger.counts("hurry") == {"never started": 2, "never stopped": 2}
        [note] = await stage.settled("on-error", 1)
        assert note["gate"] == "never"
        stage.ledger.open("in time")
        assert await stage.run("hurry", gate="in time") == "in time"

    async def test_time_limit_of_a_thread(self, stage: Stage) -> None:
        """A plain function that takes longer than its time limit has failed, though its thread goes on; once."""
        signature = await stage.client.asign("hurry-block", gate="g", error_callbacks=["on-error"])
        error = await stage.failure(await signature.aio_run_no_wait(), DEADLINE + TIME_LIMIT)
        assert "Timeout" in error.type, f"{error.type}: {error.message}"
        stage.ledger.open("g")
        await stage.noted("hurry-block", "g ended")
        await stage.settled("on-error", 1)
        assert stage.ledger.of("hurry-block") == ["g started", "g ended"]

    @pytest.mark.parametrize(("task", "kind"), [*product(["odd", "odd-thread"], ODD_ERRORS)])
    async def test_whatever_a_task_raises(self, stage: Stage, task: str, kind: str) -> None:
        """Whatever a task raises of itself fails it, with the name of the error; the worker goes on."""
        signature = await stage.client.asign(task, kind=kind, error_callbacks=["on-error"])
        error = await stage.failure(await signature.aio_run_no_wait())
        of_python = "RuntimeError" if (task, kind) == ("odd", "StopIteration") else kind  # no coroutine can raise it
        assert error.type == of_python, f"{error.type}: {error.message}"
        assert stage.ledger.of(task) == [kind]
        await stage.settled("on-error", 1)
        assert await stage.run("add", a=1) == 2

    async def test_a_failed_step(self, stage: Stage) -> None:
        """When a step fails for good the later ones never start, the step's callbacks fire, then the chain's."""
        step = await stage.client.asign("fail", text="second", error_callbacks=["on-error"])
        last = await stage.client.asign("echo")
        end = await stage.client.asign("on-error", whose="chain")
        chain = await stage.client.achain([await stage.client.asign("add", a=1), step, last], error=end)
        error = await stage.failure(await chain.aio_run_no_wait())
        assert error.message == "second"
        notes = await stage.settled("on-error", 2)
        assert [note.get("whose") for note in notes].count("chain") == 1
        assert {note["mageflow_results"] for note in notes} == {2}
        await last.arefresh()
        assert last.task_status is Status.CANCELED
        assert stage.ledger.of("echo") == []
