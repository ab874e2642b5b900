"""Maps: one task over many messages, of which a record exists only while something happens to them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mageflow import Mageflow, MapSignature, SwarmConfig, errors
from tests.conftest import MakeClient
from tests.eventually import eventually
from tests.scenarios.support import BrokenError, Message, Server, Stage, numbers


def gates(*names: str) -> list[Message]:
    """Return messages for `wait`."""
    return [{"gate": name} for name in names]


async def running(stage: Stage, *names: str) -> None:
    """Wait until these gates, and no others, are waited at."""
    await eventually(lambda: stage.running == set(names), f"{names} run", found=lambda: stage.running)


async def status(mapped: MapSignature[Any, Any], index: int) -> str:
    """Return the status of an item."""
    return (await mapped.item(index)).task_status.value


async def test_results_come_in_the_order_of_the_items(client: Mageflow) -> None:
    """The list of results, and the stream of them, have the order of the items."""
    mapped = await client.amap("double", numbers(250))
    assert await mapped.aio_run(timeout=10) == [2 * n for n in range(250)]
    assert [value async for value in mapped.results()] == [2 * n for n in range(250)]


async def test_stream_gives_results_while_the_map_runs(stage: Stage) -> None:
    """A result can be read as soon as its item, and those before it, have ended."""
    mapped = await stage.client.amap("wait", gates("a", "b", "c"), config=SwarmConfig(max_concurrency=2))
    handle = await mapped.aio_run_no_wait()
    stream = handle.results()
    stage.open("a")
    assert await anext(stream) == "a"
    assert (stream.index, stream.position) == (0, 1)
    stage.open("c", "b")
    assert [value async for value in stream] == ["b", "c"]


async def test_stream_in_the_order_of_the_ends(stage: Stage) -> None:
    """Without order a result can be read as soon as its own item has ended; `index` says which that is."""
    mapped = await stage.client.amap("wait", gates("a", "b", "c"))
    await mapped.aio_run_no_wait()
    stream, seen = mapped.results(ordered=False), list[tuple[int, object]]()
    for gate in ("c", "a", "b"):
        stage.open(gate)
        seen.append((await anext(stream), stream.index))
    assert seen == [("c", 2), ("a", 0), ("b", 1)]
    assert [value async for value in mapped.results(2, ordered=False)] == ["b"]


async def test_reader_goes_on_where_another_stopped(client: Mageflow, make_client: MakeClient) -> None:
    """Any process that knows the key reads on from the position of an earlier reader."""
    mapped = await client.amap("double", numbers(120))
    stream = (await mapped.aio_run_no_wait()).results()
    first = [await anext(stream) for _ in range(70)]
    reader = make_client()
    loaded = await reader.load_signature(mapped.key)
    assert isinstance(loaded, MapSignature)
    rest: list[Any] = [value async for value in loaded.handle.results(stream.position)]
    await reader.shutdown()
    assert first + rest == [2 * n for n in range(120)]


async def test_bound_holds(stage: Stage) -> None:
    """At most `max_concurrency` items run at any moment, the first ones first."""
    names = [f"g{n}" for n in range(12)]
    mapped = await stage.client.amap("wait", gates(*names), config=SwarmConfig(max_concurrency=3))
    handle = await mapped.aio_run_no_wait()
    await running(stage, "g0", "g1", "g2")
    stage.open_all()
    assert await handle.result(timeout=10) == names
    assert stage.peak == 3


async def test_config_may_be_a_mapping(client: Mageflow) -> None:
    """As of a swarm, it is checked as `SwarmConfig` is."""
    config: Any = {"max_task_allowed": 2}
    with pytest.raises(errors.TooManyTasksError):
        await client.amap("double", numbers(3), config=config)
    with pytest.raises(ValidationError):
        await client.amap("double", config={**config, "max_concurrency": 0})


async def test_failed_items_are_left_out(client: Mageflow) -> None:
    """The results are those of the items that succeeded; the failed ones keep their record."""
    items: list[Message] = [{"gate": "x", "fails": n % 3 == 0} for n in range(9)]
    client.task(name="flaky")(_flaky)
    mapped = await client.amap("flaky", items)
    assert await mapped.aio_run(timeout=10) == ["x"] * 6
    assert [value async for value in mapped.results()] == ["x"] * 6
    assert len(await mapped.members("failed")) == 3
    progress = await mapped.progress()
    assert (progress.total, progress.done, progress.failed) == (9, 6, 3)


async def _flaky(msg: Message) -> str:
    if msg.get("fails"):
        raise BrokenError("broken")
    return msg["gate"]


async def test_failure_budget(stage: Stage) -> None:
    """At the n-th failure the map fails, and what had not started reads canceled; error callbacks fire once."""
    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=2)
    mapped = await stage.client.amap("fail", numbers(300), config=config, error_callbacks=["on_error"])
    with pytest.raises(errors.FlowFailedError) as caught:
        await mapped.aio_run(timeout=10)
    assert (caught.value.type, caught.value.failed_key) == ("BrokenError", f"{mapped.key}#1")
    await eventually(lambda: len(stage.got("on_error")) == 1, "the error callback ran")
    assert len(stage.got("fail")) == 2
    assert [await status(mapped, index) for index in (0, 1, 2, 299)] == ["failed", "failed", "canceled", "canceled"]
    with pytest.raises(errors.FlowFailedError):
        _ = [value async for value in mapped.results()]


async def test_success_callback_gets_all_results(stage: Stage) -> None:
    """A success callback of a map gets the list of results, one of an item the item's own."""
    each = await stage.client.asign("double", success_callbacks=["note"])
    mapped = await stage.client.amap(each, numbers(150), success_callbacks=["total"])
    await mapped.aio_run(timeout=10)
    await eventually(lambda: len(stage.got("total")) == 1, "the callback ran")
    assert stage.got("total")[0].values == [2 * n for n in range(150)]
    await eventually(lambda: len(stage.got("note")) == 150, "the callbacks of the items ran")
    assert sorted(message["mageflow_results"] for message in stage.got("note")) == [2 * n for n in range(150)]


async def test_signature_of_the_items_may_go_before_the_map(stage: Stage, server: Server) -> None:
    """A map has a copy of its own of the signature that it was given; that one may be changed, used and removed."""
    each = await stage.client.asign("echo", a=1)
    mapped = await stage.client.amap(each, [{"b": 1}, {"b": 2}])
    await each.kwargs.aupdate(a=2)
    await each.remove()
    assert await mapped.aio_run(timeout=10) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}]


async def test_messages_merge(stage: Stage) -> None:
    """An item gets the map's message, the map's arguments, the task's, then its own."""
    each = await stage.client.asign("echo", b=2, c=2, d=2)
    mapped = await stage.client.amap(each, [{"d": 3}], a=1, b=1)
    assert await mapped.aio_run({"z": 0, "a": 0}, timeout=10) == [{"z": 0, "a": 1, "b": 2, "c": 2, "d": 3}]


async def test_map_is_a_step_of_a_chain(client: Mageflow) -> None:
    """A map is a signature: a chain maps and reduces."""
    chain = await client.achain([await client.amap("double", numbers(50)), "total"])
    assert await chain.aio_run(timeout=10) == 2450


async def test_map_is_a_callback(stage: Stage) -> None:
    """A map that is fired as a callback runs a copy of all its items."""
    mapped = await stage.client.amap("double", numbers(250))
    await (await stage.client.asign("note", success_callbacks=[mapped])).aio_run(timeout=10)
    await eventually(lambda: len(stage.got("double")) == 250, "the copy ran")
    assert await mapped.aio_run(timeout=10) == [2 * n for n in range(250)]


async def test_task_that_returns_a_signature(client: Mageflow) -> None:
    """An item whose task is replaced has the result of what replaced it."""

    @client.task(name="planned")
    async def planned(n: int) -> Any:
        return await client.achain([await client.asign("double", n=n), await client.asign("add")])

    mapped = await client.amap(planned, numbers(5))
    assert await mapped.aio_run(timeout=10) == [1, 3, 5, 7, 9]
    assert [value async for value in mapped.results(ordered=False)].__len__() == 5


async def test_item_is_retried(client: Mageflow) -> None:
    """An item has the attempts of its task, and keeps its slot between them."""
    failed: set[int] = set()

    @client.task(name="second-time", retries=1)
    async def second_time(n: int) -> int:
        if n not in failed:
            failed.add(n)
            raise BrokenError("first")
        return n

    mapped = await client.amap(second_time, numbers(3), config=SwarmConfig(max_concurrency=2))
    assert await mapped.aio_run(timeout=20) == [0, 1, 2]


async def test_suspend_and_resume(stage: Stage) -> None:
    """A suspended map starts nothing more, and goes on where it stopped."""
    mapped = await stage.client.amap("wait", gates("a", "b", "c", "d"), config=SwarmConfig(max_concurrency=2))
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a", "b")
    await mapped.suspend()
    stage.open_all()
    await eventually(lambda: _done(mapped, 2), "what ran has ended")
    wait = await stage.client.why(f"{mapped.key}#3")
    assert wait is not None
    assert (wait.kind, wait.on) == ("mark", mapped.key)
    assert await status(mapped, 3) == "suspended"
    await mapped.resume()
    assert await handle.result(timeout=10) == ["a", "b", "c", "d"]
    assert stage.started == ["a", "b", "c", "d"]


async def _done(mapped: MapSignature[Any, Any], count: int) -> bool:
    return (await mapped.progress()).done == count


async def test_interrupt_and_resume(stage: Stage) -> None:
    """An interrupted map stops what runs; at resume that runs again with its message."""
    mapped = await stage.client.amap("wait", gates("a", "b", "c"), config=SwarmConfig(max_concurrency=2))
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a", "b")
    await mapped.interrupt()
    await running(stage)
    stage.open_all()
    await mapped.resume()
    assert await handle.result(timeout=10) == ["a", "b", "c"]


async def test_cancel_of_the_map(stage: Stage) -> None:
    """A canceled map ends what runs and what waits, in one step whatever its size."""
    mapped = await stage.client.amap("wait", gates(*(f"g{n}" for n in range(1500))))
    handle = await mapped.aio_run_no_wait()
    await eventually(lambda: len(stage.running) == 30, "thirty run")
    await mapped.cancel()
    await running(stage)
    with pytest.raises(errors.FlowCanceledError):
        await handle.result(timeout=10)
    with pytest.raises(errors.FlowCanceledError):
        _ = [value async for value in handle.results()]
    assert [await status(mapped, index) for index in (0, 1000, 1499)] == ["canceled"] * 3
    with pytest.raises(errors.SwarmIsCanceledError):
        await mapped.add_items(gates("more"))


async def test_items_that_wait_are_canceled(stage: Stage) -> None:
    """An item that was canceled while it waited never starts, reads canceled, and counts as failed."""
    mapped = await stage.client.amap("wait", gates("a", "b", "c", "d"), config=SwarmConfig(max_concurrency=1))
    await stage.client.cancel(f"{mapped.key}#3")
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a")
    await stage.client.cancel(f"{mapped.key}#1")
    stage.open_all()
    assert await handle.result(timeout=10) == ["a", "c"]
    assert [await status(mapped, index) for index in range(4)] == ["done", "canceled", "done", "canceled"]
    assert (await mapped.progress()).canceled == 2
    assert stage.started == ["a", "c"]


async def test_item_that_runs_is_canceled(stage: Stage) -> None:
    """A running item that is canceled frees its slot at once."""
    mapped = await stage.client.amap("wait", gates("a", "b"), config=SwarmConfig(max_concurrency=1))
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a")
    await (await mapped.item(0)).cancel()
    await running(stage, "b")
    stage.open_all()
    assert await handle.result(timeout=10) == ["b"]


async def test_items_that_wait_are_suspended(stage: Stage) -> None:
    """A suspended item is passed over, and goes to the front of the queue at its resume."""
    names = ("a", "b", "c", "d", "e")
    mapped = await stage.client.amap("wait", gates(*names), config=SwarmConfig(max_concurrency=1))
    assert await (await mapped.item(1)).suspend() == "suspended"
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a")
    stage.open("a")
    await running(stage, "c")
    await stage.client.resume(f"{mapped.key}#1")
    stage.open("c")
    await running(stage, "b")
    stage.open_all()
    assert await handle.result(timeout=10) == list(names)
    assert stage.started == ["a", "c", "b", "d", "e"]


async def test_running_item_is_interrupted(stage: Stage) -> None:
    """An interrupted item stops, gives its slot back, and runs again at its resume."""
    mapped = await stage.client.amap("wait", gates("a", "b"), config=SwarmConfig(max_concurrency=1))
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a")
    await stage.client.interrupt(f"{mapped.key}#0")
    await running(stage, "b")
    stage.open_all()
    await stage.client.resume(f"{mapped.key}#0")
    assert await handle.result(timeout=10) == ["a", "b"]
    assert stage.started == ["a", "b", "a"]


async def test_items_are_read_by_key(stage: Stage) -> None:
    """An item has a key from the moment it is added until its map is gone: status, result, what it waits on."""
    mapped = await stage.client.amap("wait", gates("a", "b"), config=SwarmConfig(max_concurrency=1))
    key = f"{mapped.key}#1"
    wait = await stage.client.why(key)
    assert wait is not None
    assert (wait.kind, wait.on) == ("start", mapped.key)
    handle = await mapped.aio_run_no_wait()
    await running(stage, "a")
    wait = await stage.client.why(key)
    assert wait is not None
    assert (wait.kind, wait.on) == ("slot", mapped.key)
    item = await stage.client.load_signature(key)
    assert item is not None
    assert (item.task_name, item.task_status) == ("wait", "pending")
    with pytest.raises(errors.IllegalMoveError):
        await item.aio_run_no_wait()
    stage.open_all()
    await handle.result(timeout=10)
    item = await stage.client.load_signature(key)
    assert item is not None
    assert (item.task_status, await item.handle.result(timeout=1)) == ("done", "b")
    assert await stage.client.why(key) is None
    assert await stage.client.load_signature(f"{mapped.key}#2") is None


async def test_remove_leaves_no_key(stage: Stage, server: Server) -> None:
    """A removed map leaves nothing behind, at whatever point it was."""
    mapped = await stage.client.amap("wait", gates(*(f"g{n}" for n in range(700))))
    await mapped.aio_run_no_wait()
    stage.open(*(f"g{n}" for n in range(400)))
    await eventually(lambda: _done(mapped, 400), "most have ended")
    await (await mapped.item(650)).suspend()
    await mapped.remove()
    await eventually(lambda: not server.flow_keys(), "no key is left", found=server.flow_keys)


@pytest.mark.parametrize("count", [350, 1300])
async def test_finished_map_leaves_no_key(make_client: MakeClient, server: Server, count: int) -> None:
    """A map goes with all that belongs to it `done_ttl` after its end, a large one too."""
    stage = Stage(make_client(ttl={"done_ttl": 0.3, "active_ttl": 3600}))
    async with stage.client.worker():
        await (await stage.client.amap("double", numbers(count))).aio_run(timeout=20)
        await eventually(lambda: not server.flow_keys(), "no key is left", found=server.flow_keys)


@pytest.mark.parametrize("bad", [object(), 7, {"n": object()}])
async def test_item_that_is_no_message(client: Mageflow, bad: object) -> None:
    """An item that JSON cannot hold, or that is no message, is refused by its number; those before it are there."""
    mapped = await client.amap("echo")
    with pytest.raises(errors.NotSerialisableError, match=r"item 3 of map"):
        await mapped.add_items([*numbers(3), bad, *numbers(3)])
    assert (await mapped.progress()).total == 3


async def test_empty_map_succeeds(client: Mageflow) -> None:
    """A map over nothing is done with an empty list."""
    mapped = await client.amap("double", [])
    assert await mapped.aio_run(timeout=10) == []
    assert [value async for value in mapped.results()] == []


async def test_results_of_what_is_no_map(client: Mageflow) -> None:
    """Results are streamed of maps alone."""
    handle = (await client.asign("double", n=1)).handle
    with pytest.raises(errors.IllegalMoveError, match="no map"):
        await anext(handle.results())


@pytest.mark.timeout(120)
async def test_twenty_thousand(stage: Stage, server: Server) -> None:
    """Of 20,000 items that are done no record is left, and no more than the bound had one."""
    mapped = await stage.client.amap("double", numbers(20_000), config=SwarmConfig(max_concurrency=50))
    await mapped.aio_run_no_wait()
    total = count = 0
    async for value in mapped.results():
        total += value
        count += 1
    assert (count, total) == (20_000, 20_000 * 19_999)
    assert len([name for name in server.flow_keys() if name.startswith("s:")]) == 2


async def test_why_of_an_empty_open_map(client: Mageflow) -> None:
    """A map that is open and has nothing to do waits at its gate."""
    mapped = await client.amap("double")
    await mapped.aio_run_no_wait()
    wait = await client.why(mapped.key)
    assert wait is not None
    assert wait.kind == "open gate"
    await mapped.close_swarm()
    assert await mapped.handle.result(timeout=5) == []
    assert not (await client.repair()).findings
