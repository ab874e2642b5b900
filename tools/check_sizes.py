"""Fail on modules and functions that have outgrown one idea.

A module over 400 lines needs a reason: a comment `# size: <why it is one idea>` among its lines. Over 500 no reason
helps. A function has 50 lines at most, its docstring not counted.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONG_MODULE = 400
LONGEST_MODULE = 500
LONGEST_FUNCTION = 50
FOLDERS = ("src", "packages", "tests", "bench", "examples", "tools")
REASON = re.compile(r"^# size: \S", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def count_lines(function: Function) -> int:
    """Return the length of a function from its `def` to its end, without its docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return length


def find_faults(path: Path) -> Iterator[str]:
    """Yield what is too long in a module."""
    source = path.read_text(encoding="utf-8")
    length = source.count("\n")
    if length > LONGEST_MODULE:
        yield f"{path}:1: {length} lines, {LONGEST_MODULE} at most"
    elif length > LONG_MODULE and not REASON.search(source):
        yield f"{path}:1: {length} lines; over {LONG_MODULE} say why in a line `# size: ...`"
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, Function) and (lines := count_lines(node)) > LONGEST_FUNCTION:
            yield f"{path}:{node.lineno}: {node.name} has {lines} lines, {LONGEST_FUNCTION} at most"


def main() -> int:
    """Check every module of the project and print what is too long."""
    modules = sorted(path for folder in FOLDERS for path in Path(folder).rglob("*.py"))
    faults = [fault for path in modules for fault in find_faults(path)]
    print(*faults, f"{len(modules)} modules, {len(faults)} too long", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
