"""Rules that hold for the source as a whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import mageflow
from mageflow.store import scripts
from mageflow.store.keys import Keys
from mageflow.store.scripts import Script

SOURCE = Path(mageflow.__file__).parent
_FORBIDDEN = {"eval", "exec", "__import__", "import_module"}
_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
_ALLOWED = {
    ("backends/resolve.py", "import_module"),
    ("backends/taskiq_delivery.py", "import_module"),
    ("cli/worker.py", "import_module"),
    ("testing/contracts/worker.py", "import_module"),
}
"""The backend from a fixed table, the module that a person names on the command line, and the function that a process
itself names to its own process pool."""


def test_every_key_has_the_tag_of_its_namespace() -> None:
    """Keys are built from the prefix with the hash tag, in Python and in every script."""
    keys = Keys("one")
    names = [getattr(keys, name) for name, value in vars(Keys).items() if isinstance(value, property)]
    names += [keys.record("x"), keys.payloads("x"), keys.members("x"), keys.fired("x"), keys.slots("x")]
    names += [keys.waiting_items("x"), keys.done_items("x"), keys.item_results("x", 0)]
    assert len(names) > 8
    assert all(name.startswith("{mf:one}:") for name in names)
    loaded = [script for script in vars(scripts).values() if isinstance(script, Script)]
    assert len(loaded) > 10
    for script in loaded:
        calls = re.findall(r"call\('([A-Z ]+)', ([^,)]+)", script.source)
        elsewhere = {
            (command, argument)
            for command, argument in calls
            if not argument.startswith("P ..") and argument not in {"key", "list", "from", "to", "'NX'"}
        }
        assert elsewhere <= {("TIME", "")}, f"{script.name}: {elsewhere}"


def test_nothing_is_unpickled_evaluated_or_imported_by_name() -> None:
    """No module uses pickle and its kin, eval or exec, or imports what a text names, but for two that say why."""
    found: set[tuple[str, str]] = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found |= {(name, called)} if called in _FORBIDDEN else set()
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                found |= {(name, str(module)) for module in modules & _MODULES}
    assert found == _ALLOWED
