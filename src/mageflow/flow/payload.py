"""Payloads: JSON in and out, deep merge, bodies of signatures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, from_json, to_json

from mageflow.errors import BrokenRecordError, NotSerialisableError, PayloadTooLargeError

Json = dict[str, Any]


def dump(value: object, where: str, limit: int) -> bytes:
    """Return a value as JSON.

    Raises:
        NotSerialisableError: JSON cannot hold it.
        PayloadTooLargeError: it has more than `limit` bytes.
    """
    data = _json(value, where)
    if len(data) > limit:
        raise PayloadTooLargeError(where, len(data), limit)
    return data


def _json(value: object, where: str) -> bytes:
    try:
        data = to_json(value)
        if b"NaN" in data or b"Infinity" in data:  # as numbers, or in texts
            json.loads(data, parse_constant=_refuse)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotSerialisableError(where, str(error)) from error
    return data


def _refuse(constant: str) -> object:
    msg = f"{constant} is no number of JSON"
    raise ValueError(msg)


def load(data: bytes | str, where: str) -> Any:
    """Return the value of a JSON text that we wrote.

    Raises:
        BrokenRecordError: it is not JSON.
    """
    try:
        return from_json(data)
    except ValueError as error:
        raise BrokenRecordError(where, str(error)) from error


def plain(value: object, where: str) -> Any:
    """Return a value as JSON types; models lose what was never set.

    Raises:
        NotSerialisableError: JSON cannot hold it.
    """
    try:
        dropped = unset_dropped(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotSerialisableError(where, str(error)) from error
    return from_json(_json(dropped, where))


def unset_dropped(value: object) -> object:
    """Dump models with `exclude_unset`, wherever they stand."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return {key: unset_dropped(item) for key, item in cast("Mapping[Any, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [unset_dropped(item) for item in cast("Iterable[object]", value)]
    return value


def message_of(value: object, where: str) -> Json:
    """Return a message (a model, a mapping or nothing) as JSON types.

    Raises:
        NotSerialisableError: it is something else, or JSON cannot hold it.
    """
    if value is None:
        return {}
    if not isinstance(value, (BaseModel, Mapping)):
        raise NotSerialisableError(where, f"a message is a model or a mapping, not {type(value).__name__}")
    return plain(cast("object", value), where)


def merge(base: Json, over: Mapping[str, Any]) -> Json:
    """Return `base` with `over` on top: mappings merge, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            result[key] = merge(cast("Json", below), cast("Mapping[str, Any]", value))
        else:
            result[key] = value
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a signature is made of, as stored: one line of JSON, then one for each change of its arguments."""

    name: str | None = None
    kwargs: Json = field(default_factory=dict[str, Any])
    identifiers: Json = field(default_factory=dict[str, Any])
    injection: Injection | None = None
    options: Json = field(default_factory=dict[str, Any])
    schema: Json | None = None

    def encode(self, where: str, limit: int) -> bytes:
        """Return the stored form."""
        data: Json = {"n": self.name}
        if self.kwargs:
            data["k"] = self.kwargs
        if self.identifiers:
            data["i"] = self.identifiers
        if self.injection:
            data["v"] = self.injection.encode()
        if self.options:
            data["o"] = self.options
        if self.schema:
            data["s"] = self.schema
        return dump(data, where, limit)

    @classmethod
    def decode(cls, data: bytes, where: str) -> Body:
        """Read the stored form, changes applied.

        Raises:
            BrokenRecordError: it is not what we wrote.
        """
        first, *patches = data.split(b"\n")
        values = load(first, where)
        if not isinstance(values, dict) or "n" not in values:
            raise BrokenRecordError(where, "its body is not a definition")
        values = cast("Json", values)
        kwargs: Json = values.get("k", {})
        options: Json = values.get("o", {})
        for line in patches:
            patch: Json = load(line, where)
            kwargs = {**kwargs, **patch.get("set", {})}
            options = {**options, **patch.get("options", {})}
            if "pop" in patch:
                kwargs.pop(patch["pop"], None)
        injection = values.get("v")
        return cls(
            name=values["n"],
            kwargs=kwargs,
            identifiers=values.get("i", {}),
            injection=Injection.decode(injection) if injection else None,
            options=options,
            schema=values.get("s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """Where a task takes a return value and an error; `None`: nowhere."""

    result_field: str | None = None
    error_field: str | None = None

    def encode(self) -> list[str | None]:
        """Return the stored form."""
        return [self.result_field, self.error_field]

    @classmethod
    def decode(cls, data: list[str | None]) -> Injection:
        """Read the stored form."""
        return cls(result_field=data[0], error_field=data[1])
