"""The bound arguments of a signature: a mapping as last read, and the ways to change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from mageflow.flow.checks import check_mapping, check_text
from mageflow.flow.payload import Json, plain

if TYPE_CHECKING:
    from mageflow.signature import Signature


class Kwargs(Mapping[str, Any]):
    """The bound arguments of a signature as last read; changes go through `aupdate` and `apop`."""

    def __init__(self, signature: Signature[Any, Any], values: Json) -> None:
        self._signature = signature
        self._values = values

    @override
    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    @override
    def __repr__(self) -> str:
        return f"Kwargs({self._values!r})"

    def __setitem__(self, name: str, value: object) -> None:
        """Set an argument in a transaction.

        Raises:
            OutsideTransactionError: there is none; use `await aupdate(...)`.
        """
        self.update({name: value})

    def update(self, values: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Set arguments in a transaction.

        Raises:
            OutsideTransactionError: there is none; use `await aupdate(...)`.
        """
        changed = self._changed(values, kwargs)
        before = dict(self._values)
        self._signature.change_in_block(changed, undo=lambda: self._replace(before))
        self._values.update(plain(changed, "an argument"))

    def _changed(self, values: Mapping[str, Any] | None, kwargs: Json) -> Json:
        check_mapping(values, f"the arguments of {self._signature.key}")
        return {**(values or {}), **kwargs}

    def _replace(self, values: Json) -> None:
        self._values.clear()
        self._values.update(values)

    async def aupdate(self, values: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Set arguments. One round trip; in a transaction, at its exit.

        Raises:
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: nothing was changed.
            AlreadyStartedError: a task that was started, or what has ended; names its status.
        """
        changed = self._changed(values, kwargs)
        before = dict(self._values)
        await self._signature.change(changed, undo=lambda: self._replace(before))
        self._values.update(plain(changed, "an argument"))

    async def apop(self, name: str, *default: Any) -> Any:
        """Remove an argument and return it. One round trip, two where the snapshot does not know it.

        Raises:
            KeyError: there is none and no default was given.
        """
        check_text(name, f"the name of an argument of {self._signature.key}")
        if name not in self._values:
            await self._signature.arefresh()
            self._replace(dict(self._signature.kwargs))
        if name not in self._values:
            if default:
                return default[0]
            raise KeyError(name)
        before = dict(self._values)
        await self._signature.change({}, dropped=name, undo=lambda: self._replace(before))
        return self._values.pop(name)
