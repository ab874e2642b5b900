"""Bad input: each gets an error that says what and where, and leaves nothing half-made."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel

from mageflow import Mageflow, Signature, SwarmConfig, SwarmSignature
from mageflow.errors import (
    AlreadyInContainerError,
    AlreadyStartedError,
    ChainTooShortError,
    CycleError,
    FlowFailedError,
    IllegalMoveError,
    InvalidMessageError,
    NotSerialisableError,
    PayloadTooLargeError,
    SignatureNotFoundError,
    SwarmIsClosedError,
    TooManyTasksError,
    UnrecognizedTaskError,
)
from tests.conftest import MakeClient
from tests.scenarios.refusals import Calls, refused, unchanged
from tests.scenarios.support import Number, Server, Stage

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_unknown_task_name_offers_the_closest(idle: Stage, server: Server) -> None:
    """A name that nobody registered is refused wherever a task can be named; the closest names are offered."""
    client, swarm = idle.client, await idle.client.aswarm(["echo"])
    free = await client.asign("echo")
    calls: Calls = {
        "sign": lambda: client.asign("duoble"),
        "sign by keyword": lambda: client.asign(task_name="duoble"),
        "success callback": lambda: client.asign("echo", success_callbacks=["note", "duoble"]),
        "error callback": lambda: client.asign("echo", error_callbacks="duoble"),
        "chain": lambda: client.achain([free, "duoble"]),
        "callback of a chain": lambda: client.achain([free, "echo"], error="duoble"),
        "swarm": lambda: client.aswarm(["echo"] * 150 + ["duoble"]),
        "adding": lambda: swarm.add_task("duoble"),
        "adding many": lambda: swarm.aio_run_in_swarm([free, "duoble"]),
    }
    await refused(server, calls, UnrecognizedTaskError, "'duoble'", "did you mean 'double'", client.config.namespace)


async def test_task_is_named_exactly_once(idle: Stage, server: Server) -> None:
    """Neither name, or both, raise `ValueError`."""
    await idle.client.asign("echo")
    calls: Calls = {
        "none": idle.client.asign,
        "both": lambda: idle.client.asign("echo", task_name="echo"),
        "none with arguments": lambda: idle.client.asign(n=1),
    }
    await refused(server, calls, ValueError, "exactly one of task and task_name")


async def test_arguments_of_a_wrong_type_name_the_field(idle: Stage, server: Server) -> None:
    """Bound arguments that do not fit the model of the task are refused at once, with the field and the task."""
    signature = await idle.client.asign("double")
    calls: Calls = {
        "sign": lambda: idle.client.asign("double", n="many"),
        "kwargs": lambda: idle.client.asign("double", kwargs={"n": None}),
        "update": lambda: signature.kwargs.aupdate(n=[1]),
    }
    await refused(server, calls, InvalidMessageError, "'double'", "field 'n'", "valid integer")


async def test_invalid_message_names_the_field(idle: Stage, server: Server) -> None:
    """A message that a lone task, or a chain's first, would refuse is refused before anything is stored."""
    client = idle.client
    task, chain = await client.asign("double"), await client.achain(["double", "add"])
    calls: Calls = {
        "task": lambda: task.aio_run_no_wait({"n": "many"}),
        "task, waiting": lambda: task.aio_run({"n": "many"}, timeout=1),
        "chain": lambda: chain.aio_run_no_wait({"n": 1.5}),
    }
    await refused(server, calls, InvalidMessageError, "'double'", "field 'n'", "valid integer")
    missing: Calls = {"task": task.aio_run_no_wait, "chain": chain.aio_run_no_wait}
    await refused(server, missing, InvalidMessageError, "'double'", "field 'n'", "required")


async def test_message_is_a_model_or_a_mapping(idle: Stage, server: Server) -> None:
    """Anything else as a message is refused by its type."""
    task, swarm = await idle.client.asign("echo"), await idle.client.aswarm()
    wrong: Any = [1]
    calls: Calls = {
        "task": lambda: task.aio_run_no_wait(wrong),
        "swarm": lambda: swarm.aio_run_no_wait(wrong),
        "member": lambda: swarm.aio_run_in_swarm("echo", [1]),
        "members": lambda: swarm.aio_run_tasks_in_swarm(["echo", "echo"], [{}, [1]]),
    }
    await refused(server, calls, NotSerialisableError, "a model or a mapping, not list")


async def test_chain_that_is_too_short(idle: Stage, server: Server) -> None:
    """A chain of fewer than two says how many it got; its member stays free."""
    member = await idle.client.asign("echo")
    await refused(server, {"one": lambda: idle.client.achain([member])}, ChainTooShortError, "at least two", "got 1")
    await refused(server, {"none": lambda: idle.client.achain([])}, ChainTooShortError, "at least two", "got 0")
    assert (await idle.client.achain([member, "echo"])).key


async def test_member_that_has_a_container(idle: Stage, server: Server) -> None:
    """The error names the member, its container and `aduplicate()`; the other members of the batch stay free."""
    client = idle.client
    taken, free = await client.asign("echo"), await client.asign("echo")
    home, swarm = await client.aswarm([taken]), await client.aswarm()
    calls: Calls = {
        "chain": lambda: client.achain([free, taken]),
        "swarm": lambda: client.aswarm([free, taken.key]),
        "large swarm": lambda: client.aswarm([free, *["note"] * 150, taken]),
        "adding": lambda: swarm.add_task(taken),
        "adding many": lambda: swarm.aio_run_in_swarm([free, taken]),
        "its own container again": lambda: home.add_task(taken),
    }
    await refused(server, calls, AlreadyInContainerError, taken.key, home.key, "aduplicate()")
    twice: Calls = {"twice": lambda: client.aswarm([free, free]), "twice far apart": lambda: _far_apart(client, free)}
    await refused(server, twice, AlreadyInContainerError, free.key, "aduplicate()")


async def _far_apart(client: Mageflow, member: Signature[Any, Any]) -> object:
    return await client.aswarm([member, *["note"] * 150, member])


async def test_container_inside_itself(idle: Stage, server: Server) -> None:
    """A swarm that would contain itself is refused by both keys."""
    swarm = await idle.client.aswarm()
    await refused(server, {"itself": lambda: swarm.add_task(swarm)}, CycleError, swarm.key)


async def test_started_signature_cannot_become_a_member(idle: Stage, server: Server) -> None:
    """A signature that was started is refused as a member, and so is adding it to a swarm."""
    started, swarm = await idle.client.asign("echo"), await idle.client.aswarm()
    await started.aio_run_no_wait()
    calls: Calls = {
        "chain": lambda: idle.client.achain([started, "echo"]),
        "swarm": lambda: idle.client.aswarm([started]),
        "adding": lambda: swarm.aio_run_in_swarm(started),
    }
    await refused(server, calls, AlreadyStartedError, started.key)


class _Holder(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: object


async def test_arguments_that_are_no_json(idle: Stage, server: Server) -> None:
    """Arguments, identifiers, options and messages that JSON cannot hold are refused by the place where they are."""
    client, endless = idle.client, list[object]()
    endless.append(endless)
    signature, swarm = await client.asign("echo"), await client.aswarm()
    for thing in (
        object(),
        lambda: None,
        endless,
        "\udcff",
        _Holder(thing=object()),
        math.nan,
        -math.inf,
    ):
        bound: dict[str, Any] = {"thing": thing}
        of_task: Calls = {
            "argument": lambda bound=bound: client.asign("echo", **bound),
            "identifier": lambda bound=bound: client.asign("echo", task_identifiers=bound),
            "option": lambda bound=bound: client.asign("echo", options=bound),
        }
        await refused(server, of_task, NotSerialisableError, "of task 'echo' is not JSON")
        of_containers: Calls = {
            "chain": lambda bound=bound: client.achain(["echo", "echo"], **bound),
            "swarm": lambda bound=bound: client.aswarm(["echo"], **bound),
        }
        await refused(server, of_containers, NotSerialisableError, "an argument of a", "is not JSON")
        of_signature: Calls = {
            "update": lambda bound=bound: signature.kwargs.aupdate(bound),
            "run": lambda bound=bound: signature.aio_run_no_wait(bound),
        }
        await refused(server, of_signature, NotSerialisableError, signature.key, "is not JSON")
        added: Calls = {"adding": lambda bound=bound: swarm.aio_run_in_swarm("echo", bound)}
        await refused(server, added, NotSerialisableError, swarm.key, "is not JSON")


async def test_payload_above_the_limit(make_client: MakeClient, server: Server) -> None:
    """What is too large is refused with its size and the limit, whatever it is."""
    stage = Stage(make_client(payload_limit=1_000))
    client = stage.client
    signature, swarm = await client.asign("echo"), await client.aswarm()
    large: dict[str, Any] = {"text": "x" * 1_000}
    calls: Calls = {
        "argument": lambda: client.asign("echo", **large),
        "chain": lambda: client.achain(["echo", "echo"], **large),
        "update": lambda: signature.kwargs.aupdate(large),
        "run": lambda: signature.aio_run_no_wait(large),
        "one of many": lambda: swarm.aio_run_tasks_in_swarm(["echo", "echo"], [{}, large]),
    }
    await refused(server, calls, PayloadTooLargeError, "bytes", "limit of 1000")
    await client.shutdown()


async def test_unknown_key(idle: Stage, server: Server, namespace: str) -> None:
    """A key that is unknown, of another namespace or of no form is named; nothing is created with it."""
    client, swarm = idle.client, await idle.client.aswarm(["echo"])
    free = await client.asign("echo")
    for key in (f"mf:{namespace}:{UNKNOWN}", f"mf:elsewhere:{UNKNOWN}", "mf:", f"mf:{namespace}:", "mf:x:../../out"):
        calls: Calls = {
            "chain": lambda key=key: client.achain([free, key]),
            "large swarm": lambda key=key: client.aswarm([free, *["echo"] * 150, key]),
            "success": lambda key=key: client.asign("echo", success_callbacks=[key]),
            "error": lambda key=key: client.achain(["echo", "echo"], error=key),
            "adding": lambda key=key: swarm.aio_run_in_swarm([free, key]),
        }
        await refused(server, calls, SignatureNotFoundError, key)
        with unchanged(server):
            assert await client.load_signature(key) is None


async def test_key_that_expired(idle: Stage, server: Server) -> None:
    """Every verb of a signature that is gone names its key; nothing comes back."""
    client = idle.client
    signature, swarm = await client.asign("echo"), await client.aswarm()
    for gone in (signature, swarm):
        server.connection.delete(server.keys.record(server.id_of(gone.key)))
    calls: Calls = {
        "run": signature.aio_run_no_wait,
        "refresh": signature.arefresh,
        "copy": signature.aduplicate,
        "update": lambda: signature.kwargs.aupdate(n=1),
        "status": signature.handle.status,
        "result": lambda: signature.handle.result(1),
        "member": lambda: client.achain([signature, "echo"]),
        "callback": lambda: client.asign("echo", success_callbacks=signature),
    }
    await refused(server, calls, SignatureNotFoundError, signature.key)
    swarm_calls: Calls = {
        "add": lambda: swarm.add_task("echo"),
        "add and run": lambda: swarm.aio_run_in_swarm("echo"),
        "close": swarm.close_swarm,
        "progress": swarm.progress,
        "done": swarm.is_swarm_done,
        "run": swarm.aio_run_no_wait,
    }
    await refused(server, swarm_calls, SignatureNotFoundError, swarm.key)
    server.clear()


async def test_second_start(idle: Stage, server: Server) -> None:
    """A second start names the key and `aduplicate()`, for each kind; the message of the first start stays."""
    client = idle.client
    for signature in (
        await client.asign("echo"),
        await client.achain(["echo", "echo"]),
        await client.aswarm(["echo"]),
    ):
        await signature.aio_run_no_wait({"a": 1})
        calls: Calls = {
            "again": lambda signature=signature: signature.aio_run_no_wait({"a": 2}),
            "with options": lambda signature=signature: signature.aio_run_no_wait(options={"b": 1}),
        }
        await refused(server, calls, AlreadyStartedError, signature.key, "aduplicate()")


async def test_change_of_arguments_that_comes_too_late(idle: Stage, server: Server) -> None:
    """Arguments of what was started, or has ended, are not changed: the error says so, and its status."""
    client = idle.client
    started, canceled = await client.asign("echo", n=1), await client.achain(["echo", "echo"])
    await started.aio_run_no_wait()
    await canceled.cancel()
    for signature, status in ((started, "started"), (canceled, "canceled")):
        calls: Calls = {
            "update": lambda signature=signature: signature.kwargs.aupdate(n=2),
            "transaction": lambda signature=signature: _set(client, signature),
        }
        parts = (f"cannot change the arguments of {signature.key}", f"it is {status}", "aduplicate()")
        await refused(server, calls, AlreadyStartedError, *parts)
    assert dict(started.kwargs) == {"n": 1}


async def _set(client: Mageflow, signature: Signature[Any, Any]) -> None:
    async with client.abounded_field():
        signature.kwargs["n"] = 2


async def test_start_of_a_member(idle: Stage, server: Server) -> None:
    """Running a member of a chain, also of one inside a swarm, is refused and changes nothing."""
    member = await idle.client.asign("echo")
    chain = await idle.client.achain([member, "echo"])
    await idle.client.aswarm([chain])
    await refused(server, {"member": lambda: member.aio_run_no_wait({"a": 1})}, IllegalMoveError, member.key)
    inner = await idle.client.aswarm(["echo"])
    await idle.client.achain([inner, "echo"])
    calls: Calls = {"swarm": inner.aio_run_no_wait, "its member": lambda: inner.aio_run_in_swarm("echo")}
    await refused(server, {"swarm": calls["swarm"]}, IllegalMoveError, inner.key)


async def test_swarm_that_takes_no_more(idle: Stage, server: Server) -> None:
    """A batch for a closed or full swarm is refused whole."""
    client = idle.client
    closed = await client.aswarm(["echo"], is_swarm_closed=True)
    small = await client.aswarm(["echo"], config=SwarmConfig(max_task_allowed=120))
    free = await client.asign("echo")
    calls: Calls = {"one": lambda: closed.add_task(free), "many": lambda: closed.aio_run_in_swarm([free, "echo"])}
    await refused(server, calls, SwarmIsClosedError, closed.key)
    too_many: Calls = {"many": lambda: small.aio_run_in_swarm([free, *["echo"] * 130])}
    await refused(server, too_many, TooManyTasksError, small.key, "120")


async def test_verb_of_a_swarm_on_something_else(idle: Stage, server: Server) -> None:
    """A swarm's verbs on a chain's key are refused by that key."""
    chain = await idle.client.achain(["echo", "echo"])
    wrong: SwarmSignature[Any, Any] = SwarmSignature(chain._session, chain._record)
    calls: Calls = {"add": lambda: wrong.add_task("echo"), "close": wrong.close_swarm}
    await refused(server, calls, IllegalMoveError, chain.key, "not a swarm")


async def test_refused_batch_can_be_given_again(stage: Stage, client: Mageflow) -> None:
    """After a refusal the same signatures, corrected, make the flow that was meant."""
    members = [await client.asign("double", n=n) for n in range(3)]
    with pytest.raises(UnrecognizedTaskError):
        await client.aswarm([*members, "dubble"])
    with pytest.raises(SignatureNotFoundError):
        await client.aswarm([*members, *["echo"] * 150, f"mf:{client.config.namespace}:{UNKNOWN}"])
    swarm = await client.aswarm([*members, "double"], is_swarm_closed=True)
    assert await swarm.aio_run(Number(n=9), timeout=10) == [0, 2, 4, 18]
    with pytest.raises(FlowFailedError):
        await (await client.asign("fail")).aio_run(timeout=10)
