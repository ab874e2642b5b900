"""The verbs for synchronous code."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mageflow
from mageflow import Mageflow, Status, SwarmConfig
from mageflow.arguments import Kwargs
from mageflow.blocking import SyncVerbs
from mageflow.errors import FlowFailedError, InvalidMessageError, OutsideTransactionError, SyncInLoopError
from mageflow.twins import SyncHandle, SyncKwargs, SyncMap, SyncSignature, SyncStream, SyncSwarm
from mageflow.verbs import Verbs
from tests.conftest import MakeClient
from tests.scenarios.support import Stage


@pytest.fixture
def stage(make_client: MakeClient) -> Iterator[Stage]:
    """A client with tasks, and a worker of it on the background loop."""
    stage = Stage(make_client())
    with stage.client.sync.worker():
        yield stage
    stage.client.sync.shutdown()


@pytest.fixture
def sync(stage: Stage) -> SyncVerbs:
    """The blocking face of the client."""
    return stage.client.sync


PAIRS: list[tuple[type, type]] = [
    (SyncVerbs, Verbs),
    (SyncSignature, mageflow.Signature),
    (SyncSignature, mageflow.TaskSignature),
    (SyncSignature, mageflow.ChainSignature),
    (SyncSignature, mageflow.SwitchSignature),
    (SyncSwarm, mageflow.SwarmSignature),
    (SyncMap, mageflow.MapSignature),
    (SyncHandle, mageflow.FlowHandle),
    (SyncStream, mageflow.ResultStream),
    (SyncKwargs, Kwargs),
]
"""What is for synchronous code, and what it stands for."""
INNER = {"change", "change_in_block", "session"}
"""What users do not call."""


def _public(kind: type) -> dict[str, Any]:
    named = {*dir(kind), *(name for part in kind.__mro__ for name in inspect.get_annotations(part))}
    return {name: getattr(kind, name, None) for name in named - INNER if not name.startswith("_")}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_everything_is_there(ours: type, theirs: type) -> None:
    """What the asynchronous one answers the blocking one answers, by the same name and with the same parameters."""
    here = _public(ours)
    for name, item in _public(theirs).items():
        assert name in here, name
        if not inspect.isfunction(item):
            assert not inspect.isfunction(here[name]), name
            continue
        given, wanted = ([*inspect.signature(f).parameters.values()][1:] for f in (here[name], item))
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in given)
        left_out = {p.name for p in wanted} - {p.name for p in given}
        assert not left_out or open_ended, (name, left_out)
        defaults = {p.name: p.default for p in wanted}
        known = [p for p in given if p.kind is not p.VAR_KEYWORD]
        assert all(p.default == defaults.get(p.name, p.default) for p in known), name


def test_module_has_a_blocking_face() -> None:
    """`mageflow.sync` is that of the only client."""
    assert isinstance(mageflow.sync, SyncVerbs)


def test_swarm_tells_how_it_is(stage: Stage, sync: SyncVerbs) -> None:
    """Members, gate and settings are read as on the asynchronous one."""
    swarm = sync.aswarm(["double", "fail"], config=SwarmConfig(max_concurrency=7))
    assert (len(swarm.tasks), swarm.is_swarm_closed, swarm.config.max_concurrency) == (2, False, 7)
    assert swarm.tasks_left_to_run == swarm.tasks
    swarm.close_swarm()
    assert swarm.is_swarm_closed
    swarm.aio_run({"n": 1}, timeout=10)
    swarm.arefresh()
    assert (swarm.finished_tasks, swarm.failed_tasks) == (swarm.tasks[:1], swarm.tasks[1:])
    assert (swarm.current_running_tasks, swarm.tasks_left_to_run) == ((), ())
    assert (swarm.kind.value, swarm.key.endswith(swarm.id)) == ("swarm", True)
    assert sync.config is stage.client.config


def test_flow_from_definition_to_result(stage: Stage, sync: SyncVerbs) -> None:
    """Signatures, chains and swarms are made, changed, run and read without a loop."""
    signature = sync.asign("double", n=2, task_identifiers={"a": 1})
    assert (signature.task_name, dict(signature.kwargs), signature.task_identifiers) == ("double", {"n": 2}, {"a": 1})
    signature.kwargs.aupdate(n=5)
    assert signature.kwargs.apop("n") == 5
    signature.kwargs.aupdate(n=4)
    copy = signature.aduplicate()
    chain = sync.achain([signature, "add"], name="both", success="note")
    assert chain.aio_run(timeout=10) == 9
    handle = copy.aio_run_no_wait({"n": 3})
    assert (handle.result(10), handle.status(), handle.key) == (6, Status.DONE, copy.key)
    loaded = sync.load_signature(copy.key)
    assert loaded is not None
    assert loaded.task_status is Status.DONE
    assert sync.load_signature(f"{copy.key[:-26]}01ARZ3NDEKTSV4RRFFQ69G5FAV") is None
    assert sync.aswitch("double", {4: "echo"}).aio_run({"n": 2}, timeout=10) == {"n": 2}


def test_swarm_grows_and_ends(stage: Stage, sync: SyncVerbs) -> None:
    """A swarm is opened, grown in every way and closed; its progress is read."""
    swarm = sync.aswarm(["double"], config=SwarmConfig(max_concurrency=2))
    handle = swarm.aio_run_no_wait({"n": 1})
    swarm.add_task("double").aio_run_no_wait({"n": 2})
    with swarm.adding() as adding:
        adding.aio_run_in_swarm([sync.asign("double"), "double"], {"n": 3})
        adding.aio_run_tasks_in_swarm(["double", "double"], [{"n": 4}, {"n": 5}])
    assert handle.result(10) == [2, 4, 6, 6, 8, 10]
    assert (swarm.progress().done, swarm.is_swarm_done(), len(swarm.members())) == (6, True, 6)


def test_errors_are_those_of_the_verbs(stage: Stage, sync: SyncVerbs) -> None:
    """What a verb raises, the blocking one raises."""
    with pytest.raises(InvalidMessageError):
        sync.asign("double", n="many")
    with pytest.raises(FlowFailedError, match="BrokenError"):
        sync.asign("fail").aio_run(timeout=10)
    with pytest.raises(OutsideTransactionError):
        sync.asign("double").kwargs["n"] = 1


def test_steering_by_key(stage: Stage, sync: SyncVerbs) -> None:
    """Flows are suspended, resumed, canceled and asked what they wait on."""
    signature = sync.asign("double", n=1)
    assert sync.pause(signature.key) is Status.SUSPENDED
    handle = signature.aio_run_no_wait()
    wait = sync.why(signature.key)
    assert wait is not None
    assert wait.kind == "mark"
    sync.resume(signature.key)
    assert handle.result(10) == 2
    other = sync.asign("double", n=1)
    assert other.cancel() is Status.CANCELED


def test_transaction_writes_at_its_exit(stage: Stage, sync: SyncVerbs) -> None:
    """A block is written in one step at its exit, and not at all where it raises; blocks nest."""
    with sync.abounded_field():
        signature = sync.asign("double")
        signature.kwargs["n"] = 21
        with sync.abounded_field(ignore_redis_error=True):
            handle = signature.aio_run_no_wait()
    assert handle.result(10) == 42
    dropped: list[SyncSignature] = []
    with pytest.raises(LookupError), sync.abounded_field():
        dropped.append(sync.asign("double"))
        raise LookupError
    assert sync.load_signature(dropped[0].key) is None


def test_threads_share_one_loop(stage: Stage, sync: SyncVerbs) -> None:
    """Many threads call at the same time; there is one background loop."""
    results: list[int] = []

    def run(n: int) -> None:
        results.append(sync.asign("double", n=n).aio_run(timeout=10))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [n * 2 for n in range(8)]
    assert sum(thread.name == "mageflow-sync" for thread in threading.enumerate()) == 1


async def test_running_loop_is_not_blocked(make_client: MakeClient) -> None:
    """In a thread that runs an event loop every call raises `SyncInLoopError`, and no thread was started."""
    client = make_client()
    calls: list[Callable[[], Any]] = [
        lambda: client.sync.asign("double"),
        client.sync.startup,
        client.sync.shutdown,
        lambda: client.sync.worker().__enter__(),
    ]
    for call in calls:
        with pytest.raises(SyncInLoopError, match="await"):
            call()
    assert not any(thread.name == "mageflow-sync" for thread in threading.enumerate())


async def test_calls_run_where_the_client_is_open(make_client: MakeClient) -> None:
    """Beside a worker in this process, and in a task that runs in a thread, calls run on its loop."""
    stage = Stage(make_client())

    def plan(n: int) -> str:
        return mageflow.sync.asign("double", n=n).aio_run_no_wait().key

    stage.client.task(name="plan")(plan)
    async with stage.client.worker():
        key = await (await stage.client.asign("plan", n=3)).aio_run(timeout=10)
        made = await stage.client.load_signature(key)
        assert made is not None
        assert await made.handle.result(10) == 6
        assert await asyncio.to_thread(lambda: stage.client.sync.asign("double", n=4).aio_run(timeout=10)) == 8
    assert not any(thread.name == "mageflow-sync" for thread in threading.enumerate())


def test_shutdown_ends_loop_and_thread(make_client: MakeClient) -> None:
    """After `shutdown()` no thread is left, and the client can be used again."""
    client = make_client()
    Stage(client)
    for _ in range(2):
        assert client.sync.asign("echo").key
        client.sync.shutdown()
        assert not any(thread.name == "mageflow-sync" for thread in threading.enumerate())


def test_client_without_sync_starts_no_thread(make_client: MakeClient) -> None:
    """The attribute `sync` alone starts nothing."""
    client: Mageflow = make_client()
    assert client.sync is not None
    assert not any(thread.name == "mageflow-sync" for thread in threading.enumerate())


def test_map(stage: Stage, sync: SyncVerbs) -> None:
    """A map takes its items in the calling thread, and gives its results one by one."""
    taken: set[str] = set()

    def items() -> Iterator[dict[str, int]]:
        taken.add(threading.current_thread().name)
        yield from ({"n": n} for n in range(1100))

    mapped = sync.amap("double", items())
    stream = mapped.aio_run_no_wait().results()
    assert list(stream) == [2 * n for n in range(1100)]
    assert (stream.index, stream.position) == (1099, 1100)
    assert taken == {threading.current_thread().name}
    assert mapped.item(3).task_status is Status.DONE
    again = sync.load_signature(mapped.key)
    assert isinstance(again, SyncMap)
    assert len(list(again.results(ordered=False))) == 1100


def test_error_of_the_items(stage: Stage, sync: SyncVerbs) -> None:
    """What the iterable yielded before it raised is added; a wrong item is named by its number."""

    def broken() -> Iterator[dict[str, int]]:
        yield from ({"n": n} for n in range(3))
        raise KeyError("gone")

    mapped = sync.amap("double")
    with pytest.raises(KeyError):
        mapped.add_items(broken())
    assert mapped.progress().total == 3
    with pytest.raises(InvalidMessageError, match=r"item 520"):
        mapped.add_items([*({"n": n} for n in range(520)), {"n": "x"}])
    mapped.close_swarm()
