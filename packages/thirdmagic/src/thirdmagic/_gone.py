"""Names that have no counterpart: they can be imported, and say at their first use what takes their place."""

from __future__ import annotations

from typing import NoReturn

from typing_extensions import override

from mageflow.errors import MageflowError


class NoCounterpartError(MageflowError):
    """A name of MageFlow 0.3 that MageFlow has no counterpart of; the text says what takes its place."""

    def __init__(self, name: str, instead: str) -> None:
        self.name = name
        super().__init__(f"{name} has no counterpart: {instead}")


class Gone:
    """Stands for such a name; calling it, subclassing it or reading an attribute of it raises `NoCounterpartError`."""

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def _refuse(self) -> NoReturn:
        raise NoCounterpartError(self._name, self._instead)

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        self._refuse()

    def __mro_entries__(self, _bases: tuple[object, ...]) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse()

    @override
    def __repr__(self) -> str:
        return f"<{self._name}: no counterpart, {self._instead}>"
