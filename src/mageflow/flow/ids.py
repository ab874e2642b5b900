"""Keys of signatures: `mf:<namespace>:<ulid>`, of items of a map `<key of the map>#<index>`; ids are the last part."""

from __future__ import annotations

import re

from ulid import ULID

from mageflow.errors import InvalidArgumentError, SignatureNotFoundError

PREFIX = "mf:"
_ID = re.compile(r"[0-9A-Za-z]+(#[0-9]+)?")


def new_id() -> str:
    """Return a fresh ULID."""
    return str(ULID())


def key_of(namespace: str, identifier: str) -> str:
    """Return the public key of an id."""
    return f"{PREFIX}{namespace}:{identifier}"


def item_id(map_id: str, index: int) -> str:
    """Return the id of an item of a map."""
    return f"{map_id}#{index}"


def id_of(namespace: str, key: str) -> str:
    """Return the id in a public key of this namespace.

    Raises:
        InvalidArgumentError: it is no text.
        SignatureNotFoundError: the key is of another namespace or no key at all.
    """
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users give it
        raise InvalidArgumentError("a key", f"a text such as {PREFIX}{namespace}:01ARZ3NDEKTSV4RRFFQ69G5FAV", repr(key))
    prefix = f"{PREFIX}{namespace}:"
    identifier = key.removeprefix(prefix)
    if identifier == key or not _ID.fullmatch(identifier):
        raise SignatureNotFoundError(key)
    return identifier
