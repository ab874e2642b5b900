"""Keys of signatures: `mf:<namespace>:<ulid>`; inside a namespace the ULID alone."""

from __future__ import annotations

from ulid import ULID

from mageflow.errors import SignatureNotFoundError

PREFIX = "mf:"


def new_id() -> str:
    """Return a fresh ULID."""
    return str(ULID())


def key_of(namespace: str, identifier: str) -> str:
    """Return the public key of an id."""
    return f"{PREFIX}{namespace}:{identifier}"


def id_of(namespace: str, key: str) -> str:
    """Return the id in a public key of this namespace.

    Raises:
        SignatureNotFoundError: the key is of another namespace or no key at all.
    """
    prefix = f"{PREFIX}{namespace}:"
    identifier = key.removeprefix(prefix)
    if identifier == key or not identifier or not identifier.isalnum():
        raise SignatureNotFoundError(key)
    return identifier
