"""A task that is called outside any flow behaves as if MageFlow were not there."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from mageflow import AcceptParams
from mageflow.testing.contracts.base import Contract
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.contracts.tasks import RETRIES, Sum, Trial


class OutsideContract(Contract):
    """Plain calls: arguments, results, errors, retries and context are the task manager's."""

    @pytest.mark.parametrize("name", ["total", "total-thread"])
    async def test_plain_call(self, stage: Stage, name: str) -> None:
        """A call by the task manager's own way gets its argument and gives its result; no flow is made of it."""
        call = partial(stage.subject.call, stage.client)
        assert await call(stage.tasks.made[name], Sum(a=2, b=3)) == {"total": 5}
        assert await stage.run(name, a=2, b=4) == {"total": 6}
        assert await call(stage.tasks.made[name], Sum(a=2)) == {"total": 3}

    async def test_plain_call_that_is_retried(self, stage: Stage) -> None:
        """A plain call is retried as often as the task says, and then it has failed."""
        call, trial = partial(stage.subject.call, stage.client), stage.tasks.made["trial"]
        assert await call(trial, Trial(name="mended", failures=RETRIES)) == {"attempts": RETRIES + 1}
        with pytest.raises(Exception, match="lost fails"):
            pytest.fail(f"it did not fail: {await call(trial, Trial(name='lost', failures=9))}")
        assert stage.ledger.counts("trial") == {"mended": RETRIES + 1, "lost": RETRIES + 1}

    async def test_context(self, idle: Stage) -> None:
        """A function that asks for the task manager's context gets it, in a flow and outside."""
        if idle.subject.context is None:
            pytest.skip("the task manager has no context")
        config = idle.config.model_copy(update={"param_config": AcceptParams.CTX_ONLY})
        client = idle.subject.make_client(config)

        @client.task(name="look")
        async def look(message: Sum, ctx: Any) -> dict[str, Any]:
            return {"total": message.a + message.b, "context": [kind.__name__ for kind in type(ctx).__mro__]}

        async with idle.subject.serve(client):
            handle = await (await client.asign(look, a=2)).aio_run_no_wait()
            for result in (await idle.result(handle), await idle.subject.call(client, look, Sum(a=2))):
                assert result["total"] == 3
                assert idle.subject.context.__name__ in result["context"]
