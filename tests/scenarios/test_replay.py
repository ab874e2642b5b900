"""A task that runs again gets the signatures that its earlier run made, and nothing is started twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mageflow import Mageflow, NonRetryableError
from mageflow.errors import AlreadyInContainerError, AlreadyStartedError, IllegalMoveError
from tests.conftest import MakeClient
from tests.eventually import eventually


class Made:
    """A client whose `plan` task fails at its first attempts, after it created and started things."""

    def __init__(self, client: Mageflow, attempts: int = 2) -> None:
        self.client = client
        self.attempts = attempts
        self.keys: list[tuple[str, ...]] = []
        self.ran: list[int] = []
        client.task(name="count")(self._count)

    async def _count(self, n: int = 0) -> int:
        self.ran.append(n)
        return n

    def fail_before_the_last(self, *keys: str) -> None:
        """Note the keys of an attempt, and fail unless it is the last."""
        self.keys.append(keys)
        if len(self.keys) < self.attempts:
            raise RuntimeError


async def run(made: Made, plan: Any) -> Any:
    """Run a function as a task with retries, return its result."""
    made.client.task(name="plan", retries=made.attempts - 1)(plan)
    async with made.client.worker():
        return await (await made.client.asign("plan")).aio_run(timeout=15)


async def test_order_of_keys_makes_no_other_signature(make_client: MakeClient) -> None:
    """Arguments are the same in any order of their keys, as the next attempt may get them from a database."""
    made = Made(make_client())

    async def plan() -> None:
        names = ["a", "b"] if not made.keys else ["b", "a"]
        signature = await made.client.asign("count", task_identifiers={name: {name: 1, "c": 2} for name in names})
        made.fail_before_the_last(signature.key)

    await run(made, plan)
    assert made.keys[0] == made.keys[1]


async def test_creation_in_a_retried_task_is_done_once(make_client: MakeClient) -> None:
    """Signatures, chains, swarms, members and copies have the same keys in each attempt; what was started runs once."""
    made = Made(make_client())

    async def plan() -> list[int]:
        client = made.client
        first = await client.asign("count", n=1)
        twin = await client.asign("count", n=1)
        chain = await client.achain([first, "count"], success=[await client.asign("count", n=100)])
        swarm = await client.aswarm(["count", twin])
        [added] = await swarm.aio_run_in_swarm("count", {"n": 7})
        [claimed] = await swarm.aio_run_in_swarm(await client.asign("count", n=8))
        await swarm.aio_run_no_wait({"n": 5})
        await swarm.close_swarm()
        copy = await first.aduplicate()
        handle = await chain.aio_run_no_wait()
        keys = [s.key for s in (first, twin, chain, swarm, added, claimed, copy)]
        assert len(set(keys)) == len(keys)
        made.fail_before_the_last(*keys)
        assert await handle.result(10) == 0
        return await swarm.handle.result(10)

    assert await run(made, plan) == [5, 1, 7, 8]
    assert len(made.keys) == 2
    assert made.keys[0] == made.keys[1]
    await eventually(lambda: sorted(made.ran) == [0, 1, 1, 5, 7, 8, 100], "each ran once")


async def test_creation_under_gather_is_done_once(make_client: MakeClient) -> None:
    """Equal and different signatures made side by side are the same ones again."""
    made = Made(make_client())

    async def plan() -> int:
        signatures = await asyncio.gather(*(made.client.asign("count", n=n % 3) for n in range(9)))
        for signature in signatures:
            await signature.aio_run_no_wait()
        made.fail_before_the_last(*sorted(signature.key for signature in signatures))
        return len(signatures)

    assert await run(made, plan) == 9
    assert made.keys[0] == made.keys[1]
    assert len(set(made.keys[0])) == 9


@pytest.mark.parametrize("count", [2, 150])
async def test_transactions_are_replayed(make_client: MakeClient, count: int) -> None:
    """A block that an earlier attempt wrote is not written again; what changed in it is."""
    made = Made(make_client())

    async def plan() -> list[int]:
        client = made.client
        async with client.abounded_field():
            swarm = await client.aswarm([await client.asign("count", n=n) for n in range(count)], is_swarm_closed=True)
            handle = await swarm.aio_run_no_wait()
            changed = await client.asign("count", n=1000 + len(made.keys))
            other = await changed.aio_run_no_wait()
        made.fail_before_the_last(swarm.key)
        assert await other.result(10) == 1001
        return await handle.result(10)

    assert await run(made, plan) == list(range(count))
    assert made.keys[0] == made.keys[1]


async def test_changed_arguments_give_a_new_signature(make_client: MakeClient) -> None:
    """Another attempt that asks for something else gets something else."""
    made = Made(make_client())

    async def plan() -> int:
        signature = await made.client.asign("count", n=len(made.keys))
        await signature.aio_run_no_wait()
        made.fail_before_the_last(signature.key)
        return await signature.handle.result(10)

    assert await run(made, plan) == 1
    assert made.keys[0] != made.keys[1]


async def test_second_start_in_one_attempt_is_refused(make_client: MakeClient) -> None:
    """What an earlier attempt started may be started again once, not twice."""
    made = Made(make_client(), attempts=1)

    async def plan() -> None:
        signature = await made.client.asign("count")
        await signature.aio_run_no_wait()
        try:
            await signature.aio_run_no_wait()
        except Exception as error:
            raise NonRetryableError(type(error).__name__) from error

    with pytest.raises(Exception, match="AlreadyStartedError"):
        await run(made, plan)


async def test_what_an_earlier_attempt_alone_asked_for_is_canceled(make_client: MakeClient) -> None:
    """Never started, not asked for again: canceled at the end of the task, large or small; members stay."""
    made = Made(make_client())
    first: list[str] = []

    async def plan() -> int:
        client, again = made.client, await made.client.asign("count", n=7)
        if not made.keys:
            lone = await client.asign("count", n=1)
            large = await client.aswarm([await client.asign("count", n=n) for n in range(150)])
            member, callback = await client.asign("count", n=2), await client.asign("count", n=3)
            holder = await client.asign("count", n=4, success_callbacks=[callback])
            await client.achain([member, "count"])
            started = await client.asign("count", n=5)
            await started.aio_run_no_wait()
            first.extend(signature.key for signature in (lone, large, holder, member, callback, started))
        made.fail_before_the_last(again.key)
        return 1

    assert await run(made, plan) == 1
    client = made.client

    async def statuses() -> list[str]:
        found = [await client.load_signature(key) for key in (*first, made.keys[0][0])]
        return [signature.task_status.value if signature else "gone" for signature in found]

    expected = ["canceled", "canceled", "canceled", "canceled", "pending", "done", "pending"]
    async with client.worker():
        await eventually(lambda: _equals(statuses, expected), "what nobody asked for again is canceled")


async def _equals(read: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await read() == expected


async def test_creation_outside_of_a_flow_is_done_once_for_each_run_of_the_manager(make_client: MakeClient) -> None:
    """A plain call that its task manager retries gets the same signatures again; another call gets others."""
    made = Made(make_client())
    client = made.client

    async def plan() -> str:
        signature = await client.asign("count", n=3)
        await signature.aio_run_no_wait()
        made.fail_before_the_last(signature.key)
        return signature.key

    task = client.task(name="plan", retries=1)(plan)
    async with client.worker():
        await task.kiq()
        await eventually(lambda: len(made.keys) == 2, "it was retried")
        await task.kiq()
        await eventually(lambda: len(made.keys) == 3, "it was called again")
        await eventually(lambda: made.ran == [3, 3], "what each call started ran once")
    assert made.keys[0] == made.keys[1] != made.keys[2]


async def test_change_of_arguments_that_comes_too_late_raises_in_each_attempt(make_client: MakeClient) -> None:
    """What a task changes after the container of the member was started is refused, not taken for a repeat."""
    made, refusals = Made(make_client()), list[str]()

    async def plan() -> int:
        member = await made.client.asign("count", n=1)
        await member.kwargs.aupdate(n=2)
        chain = await made.client.achain([member, "count"])
        handle = await chain.aio_run_no_wait()
        with pytest.raises(AlreadyStartedError, match="cannot change the arguments") as caught:
            await member.kwargs.aupdate(n=3)
        refusals.append(str(caught.value))
        with pytest.raises(IllegalMoveError):
            await member.aio_run_no_wait()
        await handle.result(10)
        made.fail_before_the_last(member.key)
        return made.ran[0]

    assert await run(made, plan) == 2
    assert len(refusals) == len(made.keys) == 2
    assert made.ran == [2, 0]


async def test_member_is_added_once_in_one_attempt(make_client: MakeClient) -> None:
    """A task that adds the same member twice is told so, as elsewhere."""
    made = Made(make_client(), attempts=1)

    async def plan() -> str:
        member, swarm = await made.client.asign("count"), await made.client.aswarm()
        await swarm.add_task(member)
        with pytest.raises(AlreadyInContainerError) as caught:
            await swarm.add_task(member)
        await swarm.cancel()
        return caught.value.key

    assert await run(made, plan)


async def test_arguments_of_what_runs_already_are_left_alone(make_client: MakeClient) -> None:
    """A task that changes arguments and starts, runs again without an error; what it started ran with the change."""
    made = Made(make_client())

    async def plan() -> list[int]:
        client = made.client
        alone, inside, member = [await client.asign("count", n=n) for n in (1, 2, 3)]
        await alone.kwargs.aupdate(n=10)
        await member.kwargs.aupdate(n=30)
        handles = [await alone.aio_run_no_wait()]
        async with client.abounded_field():
            inside.kwargs["n"] = 20
            handles.append(await inside.aio_run_no_wait())
        chain = await client.achain([member, "count"])
        handles.append(await chain.aio_run_no_wait())
        await asyncio.gather(*[handle.result(10) for handle in handles])
        made.fail_before_the_last(alone.key, inside.key, member.key)
        return sorted(made.ran)

    assert await run(made, plan) == [0, 10, 20, 30]
    assert made.keys[0] == made.keys[1]
