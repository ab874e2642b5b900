"""A delivery that Hatchet's engine handed over and that never arrived is no end of its flow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator

import pytest
from hatchet_sdk import ClientConfig, Context, Hatchet

from mageflow import Mageflow, MageflowConfig
from mageflow.backends.base import Finding, ManagerRun, RunState
from mageflow.backends.hatchet.backend import HatchetBackend
from mageflow.backends.hatchet.sender import Asked
from mageflow.errors import FlowCanceledError
from mageflow.flow.ids import new_id
from mageflow.store.store import Store
from tests.eventually import eventually
from tests.hatchet.process import Address
from tests.hatchet.proxy import Proxy
from tests.hatchet.subjects import in_thread, make_client, serve, worker_thread
from tests.hatchet.tasks import Notes, Number, register

pytestmark = [pytest.mark.timeout(240), pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
DEADLINE = 60.0


class Served:
    """A client with a worker of one slot."""

    def __init__(self, client: Mageflow, notes: Notes) -> None:
        self.client = client
        self.notes = notes


@pytest.fixture(scope="module")
def worker(hatchet_environment: Address | None) -> Iterator[Served]:
    """A client whose worker serves every test of the module."""
    client, notes = make_client(MageflowConfig(namespace=f"lost{new_id()}".lower())), Notes()
    register(client, notes)
    with worker_thread(client, slots=1):
        yield Served(client, notes)


async def test_delivery_whose_code_never_begins(served: Served) -> None:
    """Where a worker got a run and no code of it begins, the task runs elsewhere, and the lost run is canceled."""
    client, taken = served.client, asyncio.Event()
    loop = asyncio.get_running_loop()
    other = Hatchet(config=ClientConfig(namespace=client.config.namespace))

    @other.task(name="double", input_validator=Number)
    async def double(message: Number, ctx: Context) -> dict[str, int]:
        loop.call_soon_threadsafe(taken.set)
        await asyncio.sleep(600)
        return {}

    busy = await (await client.asign("sleep", name="busy")).aio_run_no_wait()
    await eventually(lambda: served.notes.of("busy") == ["started"], "its worker is busy", DEADLINE)
    serving = in_thread(other.worker("other", slots=1, workflows=[double]), other)
    serving.__enter__()
    try:
        signature = await client.asign("double", n=21)
        handle = await signature.aio_run_no_wait()
        await asyncio.wait_for(taken.wait(), DEADLINE)
        store = (await client._host.open()).store
        lost = await _noted(store, signature.id)
        await client.cancel(busy.key)
        assert await handle.result(DEADLINE) == 42
        assert await store.manager_run(signature.id) != lost
        await eventually(lambda: _is_canceled(client, lost), "the lost run is canceled", DEADLINE)
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)


async def test_canceled_while_the_engine_is_away(hatchet_environment: Address | None) -> None:
    """A run that Hatchet canceled is canceled where it ends as the engine cannot be asked; it does not run again."""
    notes, loop, left = Notes(), asyncio.get_running_loop(), threading.Event()
    with contextlib.closing(Proxy(os.environ)) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in proxy.environment.items():
            patch.setenv(name, value)
        client = make_client(MageflowConfig(namespace=f"away{new_id()}".lower()))

        @client.task(name="linger")
        async def linger() -> str:
            notes.add("linger", "began")
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                await asyncio.to_thread(proxy.stop)
                notes.add("linger", "canceled")
                await asyncio.to_thread(left.wait, DEADLINE)
            return "lingered"

        async with serve(client):
            signature = await client.asign("linger")
            handle = await signature.aio_run_no_wait()
            await eventually(lambda: notes.of("linger") == ["began"], "it runs", DEADLINE)
            run = await _noted((await client._host.open()).store, signature.id)
            await client.runs.aio_cancel(run)
            await eventually(lambda: notes.of("linger") == ["began", "canceled"], "it is canceled", DEADLINE)
            loop.call_later(3, proxy.start)
            left.set()
            with pytest.raises(FlowCanceledError):
                await handle.result(DEADLINE)
            assert notes.of("linger") == ["began", "canceled"]


async def _noted(store: Store, identifier: str) -> str:
    async def is_noted() -> bool:
        return await store.manager_run(identifier) != ""

    await eventually(is_noted, "its run is noted", DEADLINE)
    return await store.manager_run(identifier)


async def _is_canceled(client: Mageflow, run: str) -> bool:
    return (await client.runs.aio_get_details(run)).status.value == "CANCELLED"


@pytest.mark.parametrize(
    ("reason", "judged"),
    [
        ("Could not send task to worker. This likely means that too many slots ...", RunState.LOST),
        ("Task reached its maximum reassignment count", RunState.LOST),
        ("Task exceeded timeout of 60s", RunState.LOST),
        ("a dependency failed", RunState.FAILED),
    ],
)
async def test_given_up_by_the_engine(served: Served, reason: str, judged: RunState) -> None:
    """What the engine could not hand to a worker often enough is lost; a run that failed is not."""
    run = ManagerRun(id="id", dispatch=1, manager_run="run", task="double", age=1.0)
    asked = Asked(finding=Finding(state=RunState.FAILED, reason=reason))
    backend = served.client._host._backend
    assert isinstance(backend, HatchetBackend)
    assert (await backend._judged(run, asked)).state is judged
