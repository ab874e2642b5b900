"""What a task gets, and what it gives."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import SwarmConfig
from mageflow.errors import InvalidMessageError, PayloadTooLargeError
from mageflow.testing.contracts.base import Contract, MakeStage
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.contracts.tasks import Sum

_KIB = 1024


class MessageContract(Contract):
    """Messages and results: unchanged, merged, checked, of any size that is allowed."""

    async def test_message_comes_unchanged(self, stage: Stage) -> None:
        """JSON of every kind arrives and returns as it was given, whatever the task manager encodes it with."""
        message: dict[str, Any] = {
            "text": 'grün "\\ \u2028 \U0001f600',
            "large": 2**60 + 1,
            "float": 0.1,
            "whole": 1.0,
            "none": None,
            "flag": True,
            "nested": {"list": [1, [], {}, ""], "empty": {}},
        }
        result = await stage.run("echo", message)
        assert result == message
        assert isinstance(result["whole"], float)
        assert stage.ledger.of("echo") == [message]

    async def test_no_message(self, stage: Stage) -> None:
        """A start without a message gives a task that takes a mapping an empty one."""
        assert await stage.run("echo") == {}

    async def test_layers_of_a_message(self, stage: Stage) -> None:
        """Containers' messages, their arguments, bound arguments and the message given merge; later wins."""
        member = await stage.client.asign("echo", bound=3, deep={"c": 3})
        swarm = await stage.client.aswarm([member], inner="arguments", bound=2, deep={"b": 2, "c": 2})
        given = {"swarm": "message", "inner": "message", "bound": 1, "deep": {"a": 1, "b": 1}}
        handle = await swarm.aio_run_no_wait(given)
        await swarm.close_swarm()
        merged = {"swarm": "message", "inner": "arguments", "bound": 3, "deep": {"a": 1, "b": 2, "c": 3}}
        assert await stage.result(handle) == [merged]
        assert await stage.run("echo", {"bound": 4}, bound=3, kept=True) == {"bound": 4, "kept": True}

    async def test_fields_by_name(self, stage: Stage) -> None:
        """A function of several parameters gets the fields of the message by name, with its own defaults."""
        assert await stage.run("fields", text="ab") == "ab"
        assert await stage.run("fields", {"times": 2, "end": "!"}, text="ab") == "abab!"

    async def test_models(self, stage: Stage) -> None:
        """A model is validated before the function gets it, its defaults filled in; one may be given as message."""
        assert await stage.run("add", Sum(a=2, b=3)) == 5
        assert await stage.run("add", a=2) == 3
        assert stage.ledger.of("add") == [{"a": 2, "b": 3}, {"a": 2, "b": 1}]

    async def test_message_that_does_not_fit(self, stage: Stage) -> None:
        """A message that does not fit is refused at the call, or fails the task in the worker without a retry."""
        signature = await stage.client.asign("add")
        with pytest.raises(InvalidMessageError, match="a"):
            await signature.aio_run_no_wait({"a": "one"})
        elsewhere = await stage.add_client()
        handle = await (await elsewhere.asign("flaky", name="x")).aio_run_no_wait({"failures": "many"})
        error = await stage.failure(handle)
        assert error.type == "InvalidMessageError"
        assert "failures" in error.message
        assert stage.ledger.of("flaky") == []

    @pytest.mark.parametrize("value", [None, "text", "", 0, 7, 1.5, False, [], [1, [2]], {}, {"a": [None]}], ids=repr)
    async def test_results_of_every_type(self, stage: Stage, value: Any) -> None:
        """A result of any JSON type comes back as it is, and the next step gets it as it is."""
        chain = await stage.client.achain([await stage.client.asign("give", kwargs={"value": value}), "echo"])
        result = await stage.result(await chain.aio_run_no_wait())
        assert result == {"mageflow_results": value}
        assert type(result["mageflow_results"]) is type(value)

    async def test_results_that_are_models(self, stage: Stage) -> None:
        """A model as result arrives as a mapping."""
        assert await stage.run("model", a=1) == {"a": 1, "b": 1}

    async def test_result_of_the_wrong_type(self, stage: Stage) -> None:
        """A result that does not fit the return annotation fails the task for good, without a retry."""
        error = await stage.failure(await stage.start("wrong"))
        assert error.type == "InvalidMessageError"
        assert "result" in error.message
        assert stage.ledger.of("wrong") == ["ran"]

    async def test_return_values(self, stage: Stage) -> None:
        """A return value goes into the marked field, over what was bound there; the other arguments stay."""
        first = await stage.client.asign("give", value="a")
        chain = await stage.client.achain([first, await stage.client.asign("append", more="b"), "append"])
        assert await stage.result(await chain.aio_run_no_wait()) == "ab."

    async def test_large_results(self, stage: Stage) -> None:
        """A result of a megabyte reaches the next step whole, and so does the list of a swarm of them."""
        size = 1024 * _KIB
        chain = await stage.client.achain([await stage.client.asign("large", size=size), "measure"])
        assert await stage.result(await chain.aio_run_no_wait()) == size
        parts = [await stage.client.asign("large", size=100 * _KIB) for _ in range(5)]
        swarm = await stage.client.aswarm(parts, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
        chain = await stage.client.achain([swarm, "measure"])
        assert await stage.result(await chain.aio_run_no_wait()) == 5

    async def test_largest_message(self, stage: Stage) -> None:
        """A message as large as client and task manager allow arrives whole."""
        limit = min((await stage.capabilities()).payload_limit or 2**63, stage.config.payload_limit)
        size = limit - 8 * _KIB
        assert await stage.run("measure", {"mageflow_results": "x" * size}) == size

    async def test_payloads_that_are_too_large(self, make_stage: MakeStage) -> None:
        """A message above the limit is refused at the call, a result above it fails the task with the size."""
        async with make_stage(payload_limit=64 * _KIB) as stage:
            with pytest.raises(PayloadTooLargeError):
                await stage.start("echo", {"text": "x" * 65 * _KIB})
            assert len((await stage.run("echo", {"text": "x" * 60 * _KIB}))["text"]) == 60 * _KIB
            error = await stage.failure(await stage.start("large", size=65 * _KIB))
            assert error.type == "PayloadTooLargeError"
            assert await stage.run("add", a=1) == 2
