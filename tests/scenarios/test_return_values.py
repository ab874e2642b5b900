"""Where return values and errors are injected, and where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from mageflow import ErrorValue, Mageflow, ReturnValue
from tests.eventually import eventually
from tests.scenarios.support import Message, Stage


class _Marked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    result: ReturnValue[int]
    other: int = 0


class _Optional(BaseModel):
    model_config = ConfigDict(extra="forbid")
    result: ReturnValue[int] | None = None


class _Aliased(BaseModel):
    result: ReturnValue[int] = Field(alias="theResult")


class _Documented(BaseModel):
    result: Annotated[ReturnValue[int], Field(description="what was before", ge=0)]


class _Named(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mageflow_results: int


class _MarkedAndNamed(BaseModel):
    result: ReturnValue[int]
    mageflow_results: str = "mine"


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    other: int = 0


class _Deaf(BaseModel):
    model_config = ConfigDict(extra="ignore")
    other: int = 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_Marked, {"result": 4, "other": 0}),
        (_Optional, {"result": 4}),
        (_Aliased, {"result": 4}),
        (_Documented, {"result": 4}),
        (_Named, {"mageflow_results": 4}),
        (_MarkedAndNamed, {"result": 4, "mageflow_results": "mine"}),
        (_Open, {"mageflow_results": 4}),
        (_Closed, {"other": 0}),
        (_Deaf, {"other": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_field_of_the_return_value(client: Mageflow, model: type[BaseModel], expected: dict[str, Any]) -> None:
    """It goes to the marked field, else to `mageflow_results`, and only where the model declares or allows it."""

    async def take(msg: BaseModel) -> dict[str, Any]:
        return msg.model_dump()

    client.task(name="take", input_validator=model)(take)
    chain = await client.achain([await client.asign("double", n=2), "take"])
    assert await chain.aio_run(timeout=10) == expected


def _by_result(mageflow_results: int) -> object:
    return mageflow_results


def _by_mark(before: ReturnValue[int], other: int = 1) -> object:
    return [before, other]


def _by_other(other: int = 1) -> object:
    return other


def _by_any(**rest: object) -> object:
    return rest


def _nothing() -> object:
    return "nothing"


def _whole(msg) -> object:  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType] - users write so
    return msg  # pyright: ignore[reportUnknownVariableType] - as above


def _mapping(given: Mapping[str, Any]) -> object:
    return dict(given)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_by_result, 4),
        (_by_mark, [4, 1]),
        (_by_other, 1),
        (_by_any, {"mageflow_results": 4}),
        (_nothing, "nothing"),
        (cast("Callable[..., object]", _whole), {"mageflow_results": 4}),
        (_mapping, {"mageflow_results": 4}),
    ],
)
async def test_parameter_of_the_return_value(
    client: Mageflow, function: Callable[..., object], expected: object
) -> None:
    """A function that takes its arguments by name gets it only where it names or marks it, or takes everything."""
    client.task(name="take")(function)
    chain = await client.achain([await client.asign("double", n=2), "take"])
    assert await chain.aio_run(timeout=10) == expected


async def test_nothing_is_injected_into_a_lone_task(stage: Stage, client: Mageflow) -> None:
    """Without a signature before it, no field is added to a message, not even to one that takes anything."""
    await (await client.asign("echo")).aio_run({"a": 1}, timeout=10)
    chain = await client.achain(["echo", "note"])
    await chain.aio_run(timeout=10)
    assert stage.got("echo") == [{"a": 1}, {}]


async def test_return_value_of_none_is_injected(stage: Stage, client: Mageflow) -> None:
    """A task that returns nothing passes `None` on."""
    await (await client.achain(["note", "echo"])).aio_run(timeout=10)
    assert stage.got("echo") == [{"mageflow_results": None}]


async def test_return_value_travels_as_json_types(stage: Stage, client: Mageflow) -> None:
    """Empty lists, floats without a fraction, long numbers and text arrive as they left."""
    value: dict[str, Any] = {
        "list": [],
        "mapping": {},
        "float": 1.0,
        "long": 2**63 - 25,
        "text": "ä\n\x1f \u2028",
        "none": None,
    }
    result = await (await client.achain([await client.asign("echo", value=value), "echo"])).aio_run(timeout=10)
    assert result == {"mageflow_results": {"value": value}}
    assert isinstance(result["mageflow_results"]["value"]["float"], float)


class _MarkedError(BaseModel):
    model_config = ConfigDict(extra="ignore")
    problem: ErrorValue
    n: int = 0


class _OptionalError(BaseModel):
    model_config = ConfigDict(extra="ignore")
    problem: ErrorValue | None = None


_NamedError = create_model("_NamedError", __config__=ConfigDict(extra="ignore"), mageflow_error=(dict[str, Any], ...))


class _DeafToErrors(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int = 0


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (_MarkedError, "problem"),
        (_OptionalError, "problem"),
        (_NamedError, "mageflow_error"),
        (_Open, "mageflow_error"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_field_of_the_error(stage: Stage, client: Mageflow, model: type[BaseModel], field: str) -> None:
    """An error goes to the field typed `ErrorValue`, else to `mageflow_error`, with all that it consists of."""

    async def handle(msg: BaseModel) -> None:
        stage.keep("handle", msg.model_dump())

    client.task(name="handle", input_validator=model)(handle)
    failing = await client.asign("fail", n=3, text="no paper", error_callbacks=["handle"])
    await failing.aio_run_no_wait()
    await eventually(lambda: bool(stage.got("handle")), "the error callback ran")
    error = stage.got("handle")[0][field]
    assert set(error) == {"type", "message", "traceback", "task_name", "key", "failed_task_name", "failed_key"}
    assert (error["type"], error["message"]) == ("BrokenError", "no paper")
    assert (error["task_name"], error["key"]) == ("fail", failing.key)
    assert (error["failed_task_name"], error["failed_key"]) == ("fail", failing.key)
    assert "raise BrokenError" in error["traceback"]


async def test_error_is_not_injected_where_it_is_not_taken(stage: Stage, client: Mageflow) -> None:
    """A model that declares no field for the error gets the failed task's message alone."""

    async def handle(msg: BaseModel) -> None:
        stage.keep("handle", msg.model_dump())

    client.task(name="handle", input_validator=_DeafToErrors)(handle)
    await (await client.asign("fail", n=3, error_callbacks=["handle"])).aio_run_no_wait()
    await eventually(lambda: stage.got("handle") == [{"n": 3}], "the error callback got the message")


async def test_callbacks_get_only_what_is_theirs(stage: Stage, client: Mageflow) -> None:
    """A success callback gets no error and an error callback no result, also where the model takes anything."""

    @client.task(name="keep")
    async def keep(msg: Message) -> None:
        stage.keep("keep", set(msg))

    await (await client.asign("double", n=1, success_callbacks=["keep"])).aio_run(timeout=10)
    await eventually(lambda: stage.got("keep") == [{"mageflow_results"}], "the success callback ran")
    await (await client.asign("fail", error_callbacks=["keep"])).aio_run_no_wait()
    await eventually(lambda: stage.got("keep")[1:] == [{"mageflow_error"}], "the error callback ran")
