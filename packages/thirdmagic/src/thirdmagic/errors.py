"""Errors."""

from mageflow.errors import (
    MageflowError,
    SignatureNotFoundError,
    SwarmError,
    SwarmIsCanceledError,
    TaskAndMsgsDontMatchForSwarmError,
    TooManyTasksError,
    UnrecognizedTaskError,
)

MissingSignatureError = SignatureNotFoundError
MissingSwarmItemError = SignatureNotFoundError

__all__ = [
    "MageflowError",
    "MissingSignatureError",
    "MissingSwarmItemError",
    "SwarmError",
    "SwarmIsCanceledError",
    "TaskAndMsgsDontMatchForSwarmError",
    "TooManyTasksError",
    "UnrecognizedTaskError",
]
