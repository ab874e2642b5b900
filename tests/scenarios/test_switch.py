"""Choices at run time: a switch runs its chooser, then the case that equals the result."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from mageflow import Mageflow, ReturnValue, Status, SwitchSignature
from mageflow.errors import AlreadyInContainerError, CaseError, FlowFailedError, IllegalMoveError, NoCaseError
from tests.eventually import eventually
from tests.scenarios.support import Message, Stage


class Colour(Enum):
    """An enum of strings."""

    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    """An enum of numbers."""

    SMALL = 1
    LARGE = 2


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"] = "dog"


class Doubled(BaseModel):
    """What `double` returned."""

    value: ReturnValue[int]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.fixture
def choosing(client: Mageflow) -> Mageflow:
    """A client whose `choose` task returns `pick` of its message, and typed choosers."""

    @client.task(name="choose")
    async def choose(msg: Message) -> Any:
        return msg["pick"]

    @client.task(name="colour")
    async def colour(pick: str) -> Colour:
        return Colour(pick)

    @client.task(name="size")
    async def size(pick: int) -> Size:
        return Size(pick)

    @client.task(name="pet")
    async def pet(pick: str) -> Pet:
        return Cat() if pick == "cat" else Dog()

    return client


async def _named(client: Mageflow, *names: str) -> list[Any]:
    return [await client.asign("echo", case=name) for name in names]


@pytest.mark.parametrize(
    ("chooser", "pick", "values", "place"),
    [
        ("choose", "b", ["a", "b"], 1),
        ("choose", True, [False, True], 1),
        ("choose", 7, [7, "7"], 0),
        ("choose", "7", [7, "7"], 1),
        ("colour", "blue", [Colour.RED, Colour.BLUE], 1),
        ("colour", "red", ["red", "blue"], 0),
        ("size", 2, [Size.SMALL, Size.LARGE], 1),
        ("pet", "dog", ["cat", "dog"], 1),
        ("choose", "x" * 500, ["x" * 500, "y"], 0),
    ],
)
async def test_the_case_that_equals_the_result_runs(
    choosing: Mageflow, stage: Stage, *, chooser: str, pick: object, values: list[Any], place: int
) -> None:
    """Texts, numbers, bools, enums, discriminators choose; the case has the chooser's message; others are canceled."""
    cases = await _named(choosing, "first", "second")
    switch = await choosing.aswitch(chooser, cases=dict(zip(values, cases, strict=True)))
    chosen = {"case": ("first", "second")[place], "pick": pick}
    assert await switch.aio_run({"pick": pick}, timeout=10) == chosen
    assert stage.got("echo") == [chosen]
    other = cases[1 - place]

    async def is_canceled() -> bool:
        await other.arefresh()
        return other.task_status is Status.CANCELED

    await eventually(is_canceled, "the other case is canceled")


async def test_default_and_no_case(choosing: Mageflow, stage: Stage) -> None:
    """Without a case that fits the default runs; without a default the switch fails with `NoCaseError`."""
    with_default = await choosing.aswitch("choose", {"a": "double"}, "echo")
    assert await with_default.aio_run({"pick": "z"}, timeout=10) == {"pick": "z"}
    for pick in ("z", {"a": 1}, None):
        without = await choosing.aswitch("choose", {"a": "double"}, error_callbacks=["on_error"])
        with pytest.raises(FlowFailedError) as caught:
            await without.aio_run({"pick": pick}, timeout=10)
        assert caught.value.type == NoCaseError.__name__
    await eventually(lambda: len(stage.got("on_error")) == 3, "each fires its error callback")
    assert {failure.error.type for failure in stage.got("on_error")} == {"NoCaseError"}
    assert stage.got("on_error")[0].model_extra["pick"] == "z"


async def test_a_switch_is_a_signature(choosing: Mageflow, stage: Stage) -> None:
    """It is a step of a chain, its chooser and cases may be containers, and it is copied with all below it."""
    chooser = await choosing.achain([await choosing.asign("double"), "parity"])
    case = await choosing.achain([await choosing.asign("double"), "add"])
    switch = await choosing.aswitch(chooser, {"even": case, "odd": "fail"}, success_callbacks=["note"])
    copy = await switch.aduplicate()
    assert isinstance(copy, SwitchSignature)
    assert await switch.aio_run({"n": 4}, timeout=10) == 9
    chain = await choosing.achain(["number", copy, "add"], n=3)
    assert await chain.aio_run(timeout=10) == 8
    await eventually(lambda: len(stage.got("note")) == 2, "callbacks fire, of the copy too")


@pytest.fixture(autouse=True)
def more_tasks(client: Mageflow) -> None:
    """Tasks that the nested switch is made of."""

    @client.task(name="parity")
    async def parity(msg: Doubled) -> str:
        return "odd" if msg.value % 2 else "even"

    @client.task(name="number")
    async def number() -> dict[str, int]:
        return {"n": 3}

    @client.task(name="given")
    async def given(mageflow_results: dict[str, int]) -> str:
        return "low" if mageflow_results["n"] < 5 else "high"


async def test_what_enters_a_switch_reaches_the_case(choosing: Mageflow) -> None:
    """A return value goes to the chooser and to the case alike."""
    switch = await choosing.aswitch("given", {"low": "echo"}, "fail")
    chain = await choosing.achain(["number", switch])
    assert await chain.aio_run(timeout=10) == {"mageflow_results": {"n": 3}}


async def test_failures_of_chooser_and_case_fail_the_switch(choosing: Mageflow, stage: Stage) -> None:
    """A failed chooser starts no case; a failed case is the switch's failure; both are told by name."""
    for chooser, cases in (("fail", {"a": "echo"}), ("choose", {"a": "fail"})):
        switch = await choosing.aswitch(chooser, cases)
        with pytest.raises(FlowFailedError, match="BrokenError"):
            await switch.aio_run({"pick": "a"}, timeout=10)
    assert stage.got("echo") == []


async def test_what_cannot_be_a_switch(choosing: Mageflow) -> None:
    """No case, a case twice, a case of another type, a member of another container: refused, and nothing is stored."""
    for cases in ({}, {"a": "echo", Colour.RED: "echo", "red": "echo"}, {1.5: "echo"}, {None: "echo"}):
        with pytest.raises(CaseError):
            await choosing.aswitch("choose", cases)
    member = await choosing.asign("echo")
    switch = await choosing.aswitch("choose", {"a": member})
    with pytest.raises(AlreadyInContainerError):
        await choosing.aswitch("choose", {"a": member})
    with pytest.raises(IllegalMoveError):
        await member.aio_run_no_wait()
    await switch.remove()


async def test_steering_a_switch(choosing: Mageflow, stage: Stage) -> None:
    """Suspended after its choice it goes on with the case at resume; a case canceled before its turn fails it."""
    cases = await _named(choosing, "a")
    switch = await choosing.aswitch(await choosing.achain(["choose", "wait"]), {"gate": cases[0]})
    handle = await switch.aio_run_no_wait({"pick": "x", "gate": "gate"})
    await eventually(lambda: stage.started == ["gate"], "the chooser runs")
    assert await switch.suspend() is Status.SUSPENDED
    stage.open("gate")
    await eventually(lambda: not stage.running, "the chooser has ended")
    await switch.resume()
    assert (await handle.result(10))["case"] == "a"
    cases = await _named(choosing, "b")
    switch = await choosing.aswitch("choose", {"b": cases[0]})
    await cases[0].cancel()
    with pytest.raises(FlowFailedError, match="Canceled"):
        await switch.aio_run({"pick": "b"}, timeout=10)
