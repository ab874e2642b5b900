"""Counts the same files without any flow and by another way than the tasks, to check the report against."""

import ast
import asyncio
import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mageflow.cli.demo.payloads import Totals

# What `ast.parse` raises for a file that it does not take.
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OSError)


async def count_directly(paths: Sequence[str], processes: int) -> Totals:
    """Count what the files hold, in processes of their own."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [loop.run_in_executor(pool, count_files, paths[first::processes]) for first in range(processes)]
        counts = await asyncio.gather(*shares)
    return Totals(
        parsed=sum(count.parsed for count in counts),
        failed=sum(count.failed for count in counts),
        lines=sum(count.lines for count in counts),
        functions=sum(count.functions for count in counts),
        classes=sum(count.classes for count in counts),
    )


def count_files(paths: Sequence[str]) -> Totals:
    """Count what the files hold, one after the other, by a walk over every node of each tree."""
    failed = lines = functions = classes = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            try:
                source = Path(path).read_bytes()
                tree = ast.parse(source)
            except _UNPARSABLE:
                failed += 1
                continue
            lines += len(source.splitlines())
            for node in ast.walk(tree):
                functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                classes += isinstance(node, ast.ClassDef)
    return Totals(parsed=len(paths) - failed, failed=failed, lines=lines, functions=functions, classes=classes)
