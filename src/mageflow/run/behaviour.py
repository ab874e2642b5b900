"""What users ask of a task beside its message: its signature, a delay, no second run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from mageflow.config import AcceptParams
from mageflow.errors import DefinitionError

logger = logging.getLogger("mageflow.run")

SIGNATURE_PARAMETER = "signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a function wants to be called.

    Args:
        params: instead of the client's `param_config`.
        signature: it takes its own signature.
        stagger: it starts after a random delay of at most this.
        wrap_result: its value is wrapped for task managers that take mappings alone.
        idempotent: it may run again when its worker was lost.
    """

    params: AcceptParams | None = None
    signature: bool = False
    stagger: timedelta = timedelta()
    wrap_result: bool = True
    idempotent: bool = True

    def over(self, below: Behaviour) -> Behaviour:
        """Return both together; this one wins."""
        return Behaviour(
            params=self.params or below.params,
            signature=self.signature or below.signature,
            stagger=max(self.stagger, below.stagger),
            wrap_result=self.wrap_result and below.wrap_result,
            idempotent=self.idempotent and below.idempotent,
        )

    def resolved(self, default: AcceptParams) -> Behaviour:
        """Return it with what the client says where the function says nothing.

        `JUST_MESSAGE` and `CTX_ONLY` pass no signature.
        """
        params = self.params or default
        takes_more = params in {AcceptParams.NO_CTX, AcceptParams.ALL}
        return replace(self, params=params, signature=self.signature and takes_more)


PLAIN: Final = Behaviour()


class Behaviours:
    """What was asked for which function; functions carry nothing of ours."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[object, Behaviour]] = {}

    def of(self, function: object) -> Behaviour:
        """Return what was asked for a function so far, also before it was wrapped (`functools.wraps`)."""
        asked = PLAIN
        while function is not None:
            asked = asked.over(self._asked.get(id(function), (None, PLAIN))[1])
            function = getattr(function, "__wrapped__", None)
        return asked

    def ask(self, function: object, behaviour: Behaviour) -> None:
        """Add to what was asked for a function."""
        self._asked[id(function)] = (function, behaviour.over(self.of(function)))


def signature_parameter(function: Callable[..., Any], name: str) -> str:
    """Return the parameter that takes the signature.

    Raises:
        DefinitionError: there is none.
    """
    parameters = inspect.signature(function).parameters.values()
    if not any(p.name == SIGNATURE_PARAMETER or p.kind is p.VAR_KEYWORD for p in parameters):
        text = f"task {name!r} asks for its signature and has no parameter {SIGNATURE_PARAMETER!r}"
        raise DefinitionError(text)
    return SIGNATURE_PARAMETER


def draw_delay(longest: timedelta, name: str) -> float:
    """Return a random delay in seconds, logged where there is one."""
    if not longest:
        return 0.0
    delay = random.uniform(0, longest.total_seconds())
    logger.info("task %r starts after a random delay of %.3f s", name, delay)
    return delay


def outside_flows(function: Callable[..., Any], behaviour: Behaviour, name: str) -> Callable[..., Any]:
    """Return a function as the task manager calls it outside a flow: after its delay, its signature `None`."""
    if not (behaviour.signature or behaviour.stagger):
        return function
    given = {signature_parameter(function, name): None} if behaviour.signature else {}

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(draw_delay(behaviour.stagger, name))
        return await function(*args, **(given | kwargs))

    @functools.wraps(function)
    def call_blocking(*args: Any, **kwargs: Any) -> Any:
        time.sleep(draw_delay(behaviour.stagger, name))
        return function(*args, **(given | kwargs))

    wrapped = call_async if inspect.iscoroutinefunction(function) else call_blocking
    signature = inspect.signature(function)
    shown = [parameter for parameter in signature.parameters.values() if parameter.name not in given]
    setattr(wrapped, "__signature__", signature.replace(parameters=shown))  # noqa: B010 - what inspect.signature reads, no attribute to pyright
    return wrapped
