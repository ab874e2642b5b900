"""Works of several sides, measured in turns."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

from bench.flows import breath

Work = Callable[[], Awaitable[Any]]


async def alternate(rounds: int, *works: Work) -> list[list[Any]]:
    """Return what each work returned in each round; the order turns round each time, the first round warms up."""
    series: list[list[Any]] = [[] for _ in works]
    for number in range(rounds + 1):
        order = list(enumerate(works))
        for index, work in order if number % 2 else reversed(order):
            gc.collect()
            await breath()
            measured = await work()
            if number:
                series[index].append(measured)
    return series
