"""The `mageflow` command. Its libraries are the extra `cli`; without them the command says how to get them."""

from importlib.util import find_spec

if find_spec("typer") is not None and find_spec("rich") is not None:
    from mageflow.cli.application import main
else:
    from mageflow.cli.missing import main

__all__ = ["main"]
