"""Every Python snippet of the README and the documentation runs."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from mageflow import Mageflow, registry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_SNIPPET = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def snippets(page: Path) -> Iterator[CodeType]:
    """Yield the snippets of a page, compiled so that `await` may stand at the top; errors name line and page."""
    text = page.read_text(encoding="utf-8")
    for match in _SNIPPET.finditer(text):
        line = text.count("\n", 0, match.start(1))
        yield compile("\n" * line + match[1], str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", [page for page in PAGES if any(snippets(page))], ids=lambda page: page.name)
async def test_snippets_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    """The snippets of a page run one after the other, with a worker of the first snippet's client running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr(registry, "_declared", {})
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    async with AsyncExitStack() as stack:
        working = False
        for code in snippets(page):
            outcome: object = eval(code, names)  # noqa: S307 - our own documentation
            if inspect.isawaitable(outcome):
                await outcome
            client = names.get("client")
            if isinstance(client, Mageflow) and not working:
                await stack.enter_async_context(client.worker())
                working = True


def test_tests_that_the_documentation_names_are_there() -> None:
    """Each `module.py::test_name` of the pages is a test."""
    named: set[tuple[str, str]] = set()
    for page in PAGES:
        named |= set(re.findall(r"`(\S+\.py)::(\w+)`", page.read_text(encoding="utf-8")))
    assert len(named) > 15
    for module, test in named:
        paths = list((ROOT / "tests").rglob(Path(module).name))
        assert any(f"def {test}(" in path.read_text(encoding="utf-8") for path in paths), f"{module}::{test}"
