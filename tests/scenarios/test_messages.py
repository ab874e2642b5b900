"""The message that a task receives: what it is merged from, and where it is checked."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator
from taskiq import Context, TaskiqDepends

from mageflow import Mageflow, Status
from mageflow.errors import FlowFailedError, InvalidMessageError
from tests.eventually import eventually
from tests.scenarios.support import Message, Stage


class _Aliased(BaseModel):
    count: int = Field(alias="theCount")
    inner: _Aliased | None = None


class _Settings(BaseModel):
    color: str = "red"
    size: int = 1
    tags: list[str] = []
    deep: dict[str, Any] = {}

    def everything(self) -> tuple[object, ...]:
        """Return all fields, the unset ones too."""
        return self.color, self.size, self.tags, self.deep


async def test_message_is_a_model_a_mapping_or_nothing(client: Mageflow) -> None:
    """All three start a task; a model counts with the fields that were set."""
    given: list[object] = [_Settings(size=3), {"size": 3}, None]
    results = [await (await client.asign("echo", size=1)).aio_run(message, timeout=10) for message in given]
    assert results == [{"size": 3}, {"size": 3}, {"size": 1}]


async def test_what_a_model_never_set_overrides_nothing(client: Mageflow) -> None:
    """Models are dumped without their unset defaults, also models inside of models and arguments."""
    signature = await client.asign("echo", color="blue", deep={"inner": {"size": 5, "color": "green"}})
    message = _Settings(tags=["a"], deep={"inner": _Settings(size=9)})
    assert message.everything()[:2] == ("red", 1)
    result = await signature.aio_run(message, timeout=10)
    assert result == {"color": "blue", "tags": ["a"], "deep": {"inner": {"size": 9, "color": "green"}}}


async def test_fields_travel_under_their_aliases(client: Mageflow) -> None:
    """A model whose fields have aliases arrives as the same model, given as a message or inside an argument."""

    async def count(msg: _Aliased) -> int:
        return msg.count + (msg.inner.count if msg.inner else 0)

    client.task(name="count")(count)
    signature = await client.asign("count", inner=_Aliased(theCount=1))
    assert await signature.aio_run(_Aliased(theCount=4), timeout=10) == 5


async def test_mappings_merge_and_lists_are_replaced(client: Mageflow) -> None:
    """The merge is deep for mappings; lists and everything else are replaced whole."""
    signature = await client.asign("echo", deep={"a": {"x": 1, "y": 1}, "b": 1}, tags=["one", "two"], n=None)
    result = await signature.aio_run({"deep": {"a": {"y": 2}, "b": {"c": 3}}, "tags": ["three"], "n": 0}, timeout=10)
    assert result == {"deep": {"a": {"x": 1, "y": 2}, "b": {"c": 3}}, "tags": ["three"], "n": 0}


def _layer(number: int) -> dict[str, Any]:
    """Return what layer `number` of six gives: it is the highest to set `x<number>`."""
    return {f"x{name}": number for name in range(number, 7)}


async def test_layers_of_a_message_in_order(stage: Stage, client: Mageflow) -> None:
    """Later wins: messages, then arguments of containers, outermost first; bound arguments; the member's message."""
    member = await client.asign("echo", **_layer(5))
    inner = await client.aswarm([], **_layer(4))
    outer = await client.aswarm([inner], **_layer(3))
    await inner.aio_run_no_wait(_layer(2))
    handle = await outer.aio_run_no_wait(_layer(1))
    await inner.aio_run_in_swarm(member, _layer(6))
    await inner.close_swarm()
    await outer.close_swarm()
    await handle.result(10)
    assert stage.got("echo") == [{f"x{number}": number for number in range(1, 7)}]


async def test_return_value_wins_over_everything(client: Mageflow) -> None:
    """The injected return value replaces what arguments and messages say of that field."""
    second = await client.asign("add", value=100, by=1)
    chain = await client.achain([await client.asign("double", n=2), second], value=200)
    assert await chain.aio_run({"value": 300}, timeout=10) == 5


async def test_message_of_a_chain_reaches_its_first_member_only(stage: Stage, client: Mageflow) -> None:
    """The first member gets the message, the later ones do not."""
    chain = await client.achain(["echo", "note"])
    await chain.aio_run({"a": 1}, timeout=10)
    assert stage.got("echo") == [{"a": 1}]
    assert stage.got("note") == [{"mageflow_results": {"a": 1}}]


async def test_message_reaches_members_of_members(stage: Stage, client: Mageflow) -> None:
    """A chain's message reaches the members of a swarm that comes first, a swarm's the first task of a member chain."""
    inner = await client.aswarm(["echo", "echo"], is_swarm_closed=True)
    await (await client.achain([inner, "note"])).aio_run({"a": 1}, timeout=10)
    member = await client.achain(["echo", "note"])
    await (await client.aswarm([member], is_swarm_closed=True)).aio_run({"b": 2}, timeout=10)
    assert stage.got("echo") == [{"a": 1}, {"a": 1}, {"b": 2}]
    assert stage.got("note")[0] == {"mageflow_results": [{"a": 1}, {"a": 1}]}


async def test_lone_task_checks_its_message_at_the_call(stage: Stage, client: Mageflow) -> None:
    """A message that does not fit names the field at the call; nothing was started, so the right one still works."""
    signature = await client.asign("double")
    for wrong in (None, {"n": "many"}, _Settings(size=2)):
        with pytest.raises(InvalidMessageError, match="'n'"):
            await signature.aio_run_no_wait(wrong)
    await signature.arefresh()
    assert signature.task_status is Status.PENDING
    assert await signature.aio_run({"n": 2}, timeout=10) == 4
    assert len(stage.got("double")) == 1


async def test_first_message_of_a_chain_is_checked_at_the_call(stage: Stage, client: Mageflow) -> None:
    """What the first task of a chain would refuse is refused at the call, also through a chain that comes first."""
    inner = await client.achain(["double", "add"])
    chain = await client.achain([inner, "add"])
    with pytest.raises(InvalidMessageError, match="'n'"):
        await chain.aio_run_no_wait({"n": "many"})
    assert stage.messages == {}
    assert await chain.aio_run({"n": 1}, timeout=10) == 4


_looked_at: list[int] = []


class _Small(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def small(cls, value: int) -> int:
        """Keep what was looked at, refuse what has two digits."""
        _looked_at.append(value)
        if value > 9:
            msg = "too big"
            raise ValueError(msg)
        return value


async def test_message_that_fails_in_the_worker_fails_without_a_retry(stage: Stage, client: Mageflow) -> None:
    """The worker's own model validates before the body; what it refuses fails the signature at the first attempt."""
    _looked_at.clear()

    @client.task(name="strict", retries=3)
    async def strict(msg: _Small) -> None:
        stage.keep("strict", msg)

    swarm = await client.aswarm(["strict"], is_swarm_closed=True, error_callbacks=["on_error"])
    handle = await swarm.aio_run_no_wait({"n": 10})
    assert await handle.result(10) == []
    [member] = await swarm.members(Status.FAILED)
    failed = await client.load_signature(member)
    assert failed is not None
    with pytest.raises(FlowFailedError, match="too big") as caught:
        await failed.handle.result(1)
    assert (caught.value.type, stage.got("strict"), _looked_at) == ("InvalidMessageError", [], [10])


async def test_wrong_return_value_fails_the_next_member_for_good(stage: Stage, client: Mageflow) -> None:
    """A result that the next member's model refuses fails that member, not the one that returned it."""
    chain = await client.achain(["echo", "add"])
    with pytest.raises(FlowFailedError, match="value") as caught:
        await chain.aio_run({"a": 1}, timeout=10)
    assert caught.value.type == "InvalidMessageError"
    assert stage.counts() == {"echo": 1}


async def test_options_of_the_manager_travel_with_the_run(stage: Stage, client: Mageflow) -> None:
    """`options=` of the signature and of the start reach the task manager, here as TaskIQ's labels; the start's win."""

    async def labelled(msg: Message, context: Annotated[Context, TaskiqDepends()]) -> dict[str, Any]:
        return {name: context.message.labels.get(name) for name in ("lane", "speed", "size")}

    task = client.task(name="labelled", lane="a", speed="slow")(labelled)
    signature = await client.asign(task, options={"speed": "fast", "size": 1})
    assert await signature.aio_run(options={"size": 2}, timeout=10) == {"lane": "a", "speed": "fast", "size": 2}


async def test_result_is_validated_against_the_return_annotation(client: Mageflow) -> None:
    """A result is converted to its annotated type where it can be, as the next one gets it."""

    @client.task(name="as-number")
    async def as_number(text: str) -> int:
        return text  # pyright: ignore[reportReturnType] - the point of the test

    chain = await client.achain([await client.asign("as-number", text="41"), "add"])
    assert await chain.aio_run(timeout=10) == 42


async def test_result_of_the_wrong_type_fails_for_good(stage: Stage, client: Mageflow) -> None:
    """A result that does not fit the annotation fails the run at its first attempt; the error says so."""

    @client.task(name="liar", retries=3)
    async def liar() -> int:
        stage.keep("liar", None)
        return "many"  # pyright: ignore[reportReturnType] - the point of the test

    @client.task(name="blocking-liar", retries=3)
    def blocking_liar() -> list[int]:
        stage.keep("liar", None)
        return ["x"]  # pyright: ignore[reportReturnType] - the point of the test

    for name in ("liar", "blocking-liar"):
        with pytest.raises(FlowFailedError, match="its result") as caught:
            await (await client.asign(name, error_callbacks=["on_error"])).aio_run(timeout=10)
        assert caught.value.type == "InvalidMessageError"
    await eventually(lambda: len(stage.got("on_error")) == 2, "both errors arrived")
    assert stage.counts()["liar"] == 2
