"""Signatures: what names a task, arguments, copies, loading, snapshots."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mageflow import ChainSignature, Mageflow, ReturnValue, Status, SwarmConfig, SwarmSignature, TaskSignature
from mageflow.errors import AlreadyInContainerError, CycleError, OutsideTransactionError, TooDeepError
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import Server, Stage


async def test_name_function_and_task_object_name_the_same_task(stage: Stage, client: Mageflow) -> None:
    """A task is named by its registered name, its task object, its function, or `task_name=`."""

    def plus_one(n: int) -> int:
        return n + 1

    decorated = client.task(name="plus-one")(plus_one)
    signatures = [
        await client.asign("plus-one", n=1),
        await client.asign(decorated, n=1),
        await client.asign(plus_one, n=1),
        await client.asign(task_name="plus-one", n=1),
    ]
    assert {signature.task_name for signature in signatures} == {"plus-one"}
    assert [await signature.aio_run(timeout=10) for signature in signatures] == [2, 2, 2, 2]


async def test_new_signature_has_a_key_of_its_namespace_and_is_pending(idle: Stage, namespace: str) -> None:
    """A signature has the key `mf:<namespace>:<ulid>`, the time of its creation and the status `pending`."""
    signature = await idle.client.asign("echo", task_identifiers={"order": 12})
    assert re.fullmatch(rf"mf:{namespace}:[0-9A-HJKMNP-TV-Z]{{26}}", signature.key)
    assert signature.task_status is Status.PENDING
    assert signature.task_identifiers == {"order": 12}
    assert abs(datetime.now(tz=UTC) - signature.creation_time) < timedelta(seconds=30)
    loaded = await idle.client.load_signature(signature.key)
    assert loaded is not None
    assert loaded.task_identifiers == {"order": 12}
    assert abs(loaded.creation_time - signature.creation_time) < timedelta(seconds=30)


async def test_every_other_keyword_becomes_a_bound_argument(client: Mageflow) -> None:
    """Keywords that `asign` does not reserve are bound arguments, also those that other calls reserve."""
    given: dict[str, Any] = {
        "name": "n",
        "success": 1,
        "error": 2,
        "config": {},
        "retries": 3,
        "task": "t",
        "msg": None,
        "key": "k",
    }
    signature = await client.asign("echo", **given)
    assert dict(signature.kwargs) == given
    assert await signature.aio_run(timeout=10) == given


async def test_reserved_names_are_bound_by_kwargs(client: Mageflow) -> None:
    """A bound argument of a reserved name goes in by `kwargs={...}`."""
    names = ("task_name", "task_identifiers", "success_callbacks", "error_callbacks", "model_validators")
    given: dict[str, Any] = dict.fromkeys((*names, "kwargs", "options"), "value")
    signature = await client.asign("echo", kwargs=given, other=1)
    assert await signature.aio_run(timeout=10) == {**given, "other": 1}


async def test_task_of_another_process_can_be_signed_by_name(stage: Stage, make_client: MakeClient) -> None:
    """A client that never saw the function signs by name, and the worker that has it runs it."""
    web = make_client()
    try:
        assert await (await web.asign("double", n=4)).aio_run(timeout=10) == 8
    finally:
        await web.shutdown()


async def test_known_task_without_a_living_worker_waits_for_one(idle: Stage, make_client: MakeClient) -> None:
    """A task that no living worker serves is parked, visible as pending, and runs when its worker appears."""
    signature = await idle.client.asign("double", n=3)
    handle = await signature.aio_run_no_wait()
    assert await handle.status() is Status.PENDING
    later = Stage(make_client())
    async with later.client.worker():
        assert await handle.result(10) == 6
    assert idle.got("double") == []


async def test_arguments_can_be_changed_until_the_start(client: Mageflow) -> None:
    """`kwargs` reads as a mapping, `aupdate` sets and `apop` removes; the task gets what is left."""
    signature = await client.asign("echo", a=1, b={"x": 1})
    await signature.kwargs.aupdate(c=3, b={"y": 2})
    await signature.kwargs.aupdate({"d-e": 4})
    assert await signature.kwargs.apop("a") == 1
    expected = {"b": {"y": 2}, "c": 3, "d-e": 4}
    assert dict(signature.kwargs) == expected
    assert signature.kwargs["c"] == 3
    assert "a" not in signature.kwargs
    assert len(signature.kwargs) == 3
    loaded = await client.load_signature(signature.key)
    assert loaded is not None
    assert dict(loaded.kwargs) == expected
    assert await signature.aio_run(timeout=10) == expected


async def test_plain_assignment_outside_a_transaction_names_aupdate(idle: Stage) -> None:
    """`kwargs[k] = v` and `kwargs.update(...)` raise outside a transaction, name `aupdate` and change nothing."""
    signature = await idle.client.asign("echo", a=1)
    with pytest.raises(OutsideTransactionError, match="aupdate"):
        signature.kwargs["a"] = 2
    with pytest.raises(OutsideTransactionError, match="aupdate"):
        signature.kwargs.update(a=2)
    await signature.arefresh()
    assert dict(signature.kwargs) == {"a": 1}


async def test_copy_of_a_task_keeps_all_but_the_key(stage: Stage, client: Mageflow) -> None:
    """`aduplicate` copies arguments, identifiers and callbacks under a new key, and both run on their own."""
    signature = await client.asign("echo", task_identifiers={"id": 7}, success_callbacks=["note"], a=1)
    copy = await signature.aduplicate()
    assert isinstance(copy, TaskSignature)
    assert copy.key != signature.key
    assert copy.task_identifiers == {"id": 7}
    assert copy.success_callbacks == signature.success_callbacks
    await copy.kwargs.aupdate(a=2)
    assert await signature.aio_run(timeout=10) == {"a": 1}
    assert await copy.aio_run(timeout=10) == {"a": 2}
    await eventually(lambda: len(stage.got("note")) == 2, "both fired their callback")


async def test_copy_of_a_started_signature_can_run(client: Mageflow) -> None:
    """A copy of what has ended is pending and runs again."""
    signature = await client.asign("double", n=2)
    assert await signature.aio_run(timeout=10) == 4
    copies = await signature.aduplicate_many(3)
    assert {copy.task_status for copy in copies} == {Status.PENDING}
    assert len({copy.key for copy in copies} | {signature.key}) == 4
    assert [await copy.aio_run(timeout=10) for copy in copies] == [4, 4, 4]


async def test_no_copies_are_an_empty_list(client: Mageflow) -> None:
    """Copies to the number of none are an empty list."""
    signature = await client.asign("double", n=2)
    assert await signature.aduplicate_many(0) == []


async def test_copy_of_a_container_copies_its_subtree(client: Mageflow) -> None:
    """A copy of a container has members of its own, at every depth, with its settings and name."""
    inner = await client.aswarm(
        [await client.asign("double", n=i) for i in range(3)],
        task_name="inner",
        config=SwarmConfig(max_concurrency=2, max_task_allowed=9),
        is_swarm_closed=True,
    )
    chain = await client.achain([inner, "total", await client.asign("add", by=10)], name="outer")
    copy = await chain.aduplicate()
    assert isinstance(copy, ChainSignature)
    assert copy.task_name == "outer"
    assert await copy.aio_run(timeout=10) == 16
    assert (await chain.handle.status(), await inner.handle.status()) == (Status.PENDING, Status.PENDING)
    assert await chain.aio_run(timeout=10) == 16


async def test_copy_of_a_swarm_keeps_its_settings(idle: Stage) -> None:
    """A copy of a swarm has its configuration and its own members, and is open if the swarm is."""
    config = SwarmConfig(max_concurrency=None, stop_after_n_failures=4, max_task_allowed=5, on_stop="interrupt")
    swarm = await idle.client.aswarm(["echo", "note"], config=config)
    copy = await idle.client.load_signature((await swarm.aduplicate()).key)
    assert isinstance(copy, SwarmSignature)
    assert copy.config == config
    assert copy.is_swarm_closed is False
    assert len(copy.tasks) == 2
    assert not set(copy.tasks) & set(swarm.tasks)


async def test_load_returns_the_right_class_or_nothing(idle: Stage, namespace: str) -> None:
    """`load_signature` returns the class of the kind with its callbacks and arguments; `None` for what is not there."""
    client = idle.client
    task = await client.asign("echo", a=1, success_callbacks=["note"], error_callbacks=["on_error", "note"])
    chain = await client.achain(["echo", "note"], name="c")
    swarm = await client.aswarm(["echo"], task_name="s")
    loaded = [await client.load_signature(item.key) for item in (task, chain, swarm)]
    assert [type(item) for item in loaded] == [TaskSignature, ChainSignature, SwarmSignature]
    assert [item.task_name for item in loaded if item] == ["echo", "c", "s"]
    assert loaded[0] is not None
    assert loaded[0].success_callbacks == task.success_callbacks
    assert loaded[0].error_callbacks == task.error_callbacks
    assert (len(task.success_callbacks), len(task.error_callbacks)) == (1, 2)
    assert await client.load_signature(f"mf:{namespace}:01ARZ3NDEKTSV4RRFFQ69G5FAV") is None
    assert await client.load_signature("mf:elsewhere:01ARZ3NDEKTSV4RRFFQ69G5FAV") is None


async def test_load_returns_nothing_where_a_swarm_goes_meanwhile(idle: Stage, server: Server) -> None:
    """A swarm that is gone before its members are read is `None` too."""
    client, store = idle.client, await idle.client._session.store()
    for ticks in range(8):  # one of them falls between the two reads
        swarm = await client.aswarm()
        identifier = server.id_of(swarm.key)
        loading = asyncio.create_task(client.load_signature(swarm.key))
        for _ in range(ticks):
            await asyncio.sleep(0)
        await store.command("UNLINK", server.keys.record(identifier), server.keys.payloads(identifier))
        await loading
        assert await client.load_signature(swarm.key) is None


async def test_attributes_are_snapshots_until_refreshed(client: Mageflow) -> None:
    """What happens elsewhere shows after `arefresh`, not before."""
    signature = await client.asign("echo", a=1)
    other = await client.load_signature(signature.key)
    assert other is not None
    await other.kwargs.aupdate(a=2)
    await other.aio_run(timeout=10)
    assert (signature.task_status, signature.kwargs["a"]) == (Status.PENDING, 1)
    await signature.arefresh()
    assert (signature.task_status, signature.kwargs["a"]) == (Status.DONE, 2)


class _Renamed(BaseModel):
    other: ReturnValue[int]
    size: int = Field(default=0, ge=0)


async def test_given_model_replaces_the_model_of_the_task(client: Mageflow) -> None:
    """`model_validators` checks arguments where it is signed, and its marked field takes the return value."""
    with pytest.raises(ValueError, match="size"):
        await client.asign("echo", model_validators=_Renamed, size=-1)
    second = await client.asign("echo", model_validators=_Renamed, size=1)
    chain = await client.achain([await client.asign("double", n=2), second])
    assert await chain.aio_run(timeout=10) == {"other": 4, "size": 1}


async def test_aliases_are_the_same_calls(client: Mageflow) -> None:
    """`sign`, `chain`, `swarm` and `load_sign` are `asign`, `achain`, `aswarm` and `load_signature`."""
    chain = await client.chain([await client.sign("double", n=1), "add"], name="c")
    swarm = await client.swarm([chain], task_name="s", is_swarm_closed=True)
    assert isinstance(await client.load_sign(swarm.key), SwarmSignature)
    assert await swarm.aio_run(timeout=10) == [3]


async def test_member_has_one_container(idle: Stage) -> None:
    """A second container for a signature is refused, the error names `aduplicate()`, and a copy is taken."""
    member = await idle.client.asign("echo")
    await idle.client.achain([member, "note"])
    with pytest.raises(AlreadyInContainerError, match=r"aduplicate\(\)"):
        await idle.client.aswarm([member])
    with pytest.raises(AlreadyInContainerError):
        await idle.client.achain(["note", member])
    swarm = await idle.client.aswarm([await member.aduplicate()])
    assert len(swarm.tasks) == 1


async def test_same_signature_twice_in_a_container_is_refused(idle: Stage) -> None:
    """One signature cannot be two members of one container."""
    member = await idle.client.asign("echo")
    with pytest.raises(AlreadyInContainerError):
        await idle.client.achain([member, member])


async def test_container_cannot_become_a_member_of_its_own_member(idle: Stage) -> None:
    """Attaching an ancestor, or the swarm itself, raises `CycleError`."""
    inner = await idle.client.aswarm()
    middle = await idle.client.aswarm([inner])
    outer = await idle.client.aswarm([middle])
    for ancestor in (inner, outer):
        with pytest.raises(CycleError):
            await inner.add_task(ancestor)


async def test_nesting_is_bounded_at_64_levels(idle: Stage) -> None:
    """Containers nest to depth 64; one more is refused, whether it is wrapped around or added inside."""
    signature: object = await idle.client.asign("echo")
    innermost: SwarmSignature[object, object] | None = None
    for _ in range(63):
        signature = await idle.client.aswarm([signature])
        innermost = innermost or signature
    with pytest.raises(TooDeepError):
        await idle.client.aswarm([signature])
    assert innermost is not None
    with pytest.raises(TooDeepError):
        await innermost.add_task(await idle.client.aswarm(["echo"]))
    await innermost.add_task("note")


async def test_callbacks_of_callbacks_are_bounded_at_64_levels(idle: Stage) -> None:
    """Callbacks nest to depth 64 as containers do, also together with them."""
    signature: object = await idle.client.aswarm([await idle.client.achain(["echo", "echo"])])
    for _ in range(61):
        signature = await idle.client.asign("echo", success_callbacks=[signature])
    with pytest.raises(TooDeepError):
        await idle.client.asign("echo", error_callbacks=[signature])
