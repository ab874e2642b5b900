"""Measures one source file with `ast`."""

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mageflow.cli.demo.payloads import FileFacts, FunctionFacts

# The fields through which a statement holds further statements: functions, classes and imports stand nowhere else.
_STATEMENT_FIELDS = ("body", "orelse", "finalbody", "handlers", "cases")


def measure_file(path: str, label: str) -> FileFacts:
    """Read a source file and count what it holds; see `measure_source`."""
    return measure_source(Path(path).read_bytes(), label)


def measure_source(source: bytes, label: str) -> FileFacts:
    """Parse a source file and count what it holds.

    Raises:
        SyntaxError: The file is not Python, or not Python of this version.
        ValueError: The file holds null bytes.
    """
    began = time.perf_counter()
    longest: FunctionFacts | None = None
    functions = classes = 0
    imports: set[str] = set()
    for statement, scope in _statements(ast.parse(source, filename=label)):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions += 1
                lines = (statement.end_lineno or statement.lineno) - statement.lineno + 1
                if longest is None or lines > longest.lines:
                    longest = FunctionFacts(
                        name=f"{scope}{statement.name}", label=label, line=statement.lineno, lines=lines
                    )
            case ast.ClassDef():
                classes += 1
            case ast.Import():
                imports.update(alias.name.partition(".")[0] for alias in statement.names)
            case ast.ImportFrom(module=str(module), level=0):
                imports.add(module.partition(".")[0])
            case _:
                pass
    return FileFacts(
        label=label,
        lines=len(source.splitlines()),
        functions=functions,
        classes=classes,
        longest=longest,
        imports=sorted(imports),
        process=os.getpid(),
        milliseconds=round((time.perf_counter() - began) * 1000, 3),
    )


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield every statement at any depth, each with the dotted name of what it stands in (`"Class.method."`)."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        parent, scope = waiting.pop()
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}{parent.name}."
        for field in _STATEMENT_FIELDS:
            children: list[ast.AST] = getattr(parent, field, [])
            for child in children:
                yield child, scope
                waiting.append((child, scope))
