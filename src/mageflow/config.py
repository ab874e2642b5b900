"""Settings of a client: frozen, checked once."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator


class AcceptParams(Enum):
    """What a task function takes: the message alone, or as second parameter the task manager's own context."""

    JUST_MESSAGE = "just_message"
    NO_CTX = "no_ctx"
    CTX_ONLY = "ctx_only"
    ALL = "all"


_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def in_seconds(value: float | timedelta) -> float:
    """Return a time span as seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def span_in_seconds(value: object) -> float | None:
    """Return a `timedelta`, or a text such as `90s` and `1h30m`, as seconds; `None`: it is neither."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str) or not value or _PART.sub("", value):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def _positive(value: float | timedelta) -> float:
    seconds = in_seconds(value)
    if not 0 < seconds < math.inf:
        msg = "must be more than 0 seconds, and a number"
        raise ValueError(msg)
    return seconds


Seconds = Annotated[float | timedelta, AfterValidator(_positive)]
"""A positive number of seconds, or a `timedelta`; kept as seconds."""


class PauseActionTypes(StrEnum):
    """How `pause` holds: `suspend` lets running code end, `interrupt` stops it."""

    SUSPEND = "suspend"
    INTERRUPT = "interrupt"


class TTLConfig(BaseModel):
    """How long records are kept; seconds or `timedelta`.

    Args:
        active_ttl: a flow that was never started, and an open swarm in which nothing happens (24 h).
        done_ttl: a finished flow (5 minutes).
        suspended_ttl: a flow whose root is suspended or interrupted is canceled after this time (30 days).
        task: overrides for flows whose root is a task, what it leaves out is as above; `chain` and `swarm` likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    active_ttl: Seconds = 86_400.0
    done_ttl: Seconds = 300.0
    suspended_ttl: Seconds = 2_592_000.0
    task: TTLConfig | None = None
    chain: TTLConfig | None = None
    swarm: TTLConfig | None = None

    def of_kind(self, kind: str) -> TTLConfig:
        """Return the lifetimes of flows whose root is of this kind (`task`, `chain`, `swarm`)."""
        override = {"task": self.task, "chain": self.chain, "swarm": self.swarm}.get(kind)
        if override is None:
            return self
        return self.model_copy(update={name: getattr(override, name) for name in override.model_fields_set})


class MageflowConfig(BaseModel):
    """Settings of a client.

    Args:
        namespace: flows of different namespaces know nothing of each other; letters, digits, `_`, `-`, `.`.
        ttl: lifetimes.
        param_config: what task functions take unless their decorator says otherwise.
        inline_limit: bytes; larger results travel by reference.
        payload_limit: bytes; larger messages and results are refused.
        crash_limit: so often a run may lose its worker before the task fails with `WorkerLostError`.
        max_replacements: so often a task may be replaced by the signature that it, or its replacement, returns.
        durability: `fsync` waits for the disk on every change that a client makes (WAITAOF, Redis 7.2 or Valkey).
        allow_eviction: start on a Redis that may evict keys (flows can vanish there).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    namespace: str = "default"
    ttl: TTLConfig = Field(default_factory=TTLConfig)
    param_config: AcceptParams = AcceptParams.NO_CTX
    inline_limit: int = Field(default=256 * 1024, gt=0)
    payload_limit: int = Field(default=4 * 1024 * 1024, gt=0)
    crash_limit: int = Field(default=5, ge=0)
    max_replacements: int = Field(default=100, ge=0)
    durability: Literal["none", "fsync"] = "none"
    allow_eviction: bool = False

    @field_validator("namespace")
    @classmethod
    def _check_namespace(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
            msg = "1 to 64 letters, digits, '_', '-' or '.'"
            raise ValueError(msg)
        return value


class SwarmConfig(BaseModel):
    """How a swarm runs its members.

    Args:
        max_concurrency: so many members run at any moment, over all workers together; `None`: unbounded.
        stop_after_n_failures: at the n-th failed member the swarm fails; `None`: never.
        max_task_allowed: so many members it may have.
        on_stop: what happens to running members when it fails: `finish` or `interrupt`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_concurrency: int | None = Field(default=30, ge=1)
    stop_after_n_failures: int | None = Field(default=None, ge=1)
    max_task_allowed: int | None = Field(default=None, ge=1)
    on_stop: Literal["finish", "interrupt"] = "finish"
