"""`mageflow worker`: find a client by name and run a worker of it until a signal asks for the end."""

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import cast

import typer

from mageflow.client import Mageflow
from mageflow.errors import MageflowError

_STARTS = "worker of {target} runs (process {process}); SIGTERM or Ctrl-C stops it"
_STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_worker(target: str, *, slots: int, verbose: bool) -> int:
    """Run a worker of the client that `target` (`module:attribute`) names, and return the exit code.

    Args:
        target: Where the client is, as seen from the working directory.
        slots: How many tasks it runs at a time.
        verbose: Log every run on standard error, not only problems. A client's module that sets up logging itself
            keeps what it set up.

    Raises:
        typer.BadParameter: `target` has another form, or what it names is missing or no client.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        client = load_client(target)
        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        worker = client.worker(slots=slots)
        if isinstance(worker, AbstractAsyncContextManager):
            asyncio.run(_serve(cast("AbstractAsyncContextManager[object]", worker), target))
        else:
            typer.echo(_STARTS.format(target=target, process=os.getpid()))
            worker.start()
    except _ModuleBrokenError as error:
        typer.echo(f"mageflow worker: {error}", err=True)
        return 1
    except MageflowError as error:
        typer.echo(f"mageflow worker: the worker of {target} ended: {type(error).__name__}: {error}", err=True)
        return 1
    return 0


def load_client(target: str) -> Mageflow:
    """Import the client that `target` (`module:attribute`, the attribute may be dotted) names.

    Raises:
        typer.BadParameter: `target` has another form, or what it names is missing or no client.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or module_name.startswith(".") or not attribute:
        raise typer.BadParameter(f"{target!r} is not of the form module:client, for example shop.flows:client")
    found: object = _import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(f"{module_name!r} has no {attribute!r}{_clients_hint(module_name)}")
        found = getattr(found, part)
    if not isinstance(found, Mageflow):
        raise typer.BadParameter(
            f"{target!r} is a {type(found).__name__}, not a Mageflow client{_clients_hint(module_name)}"
        )
    return found


class _ModuleBrokenError(Exception):
    """Raised when the user's module is there but its import fails; the message says where and why."""

    def __init__(self, module_name: str, error: Exception) -> None:
        super().__init__(f"importing {module_name!r} failed at {_place_of(error)}: {type(error).__name__}: {error}")


def _place_of(error: Exception) -> str:
    """Return file and line where an import failed, past the frames of the import system itself."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames if not frame.filename.startswith("<frozen")]
    return places[-1]


def _import_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            raise _ModuleBrokenError(name, error) from error
        raise typer.BadParameter(f"there is no module {missing!r} here or installed (asked for {name!r})") from error
    except Exception as error:  # the module is the user's: whatever it raises is reported with its place
        raise _ModuleBrokenError(name, error) from error


def _clients_hint(module_name: str) -> str:
    clients = sorted(name for name, value in vars(sys.modules[module_name]).items() if isinstance(value, Mageflow))
    return f"; the clients there: {', '.join(clients)}" if clients else "; no Mageflow client is there"


async def _serve(worker: AbstractAsyncContextManager[object], target: str) -> None:
    stop = asyncio.Event()
    with _stop_on_signals(stop):
        async with worker:
            typer.echo(_STARTS.format(target=target, process=os.getpid()))
            await stop.wait()
            typer.echo(f"worker of {target} stops; a second signal ends it at once")


@contextmanager
def _stop_on_signals(stop: asyncio.Event) -> Generator[None]:
    """Set `stop` at the first signal and end the process at the second, even if the loop answers no more."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        loop.call_soon_threadsafe(stop.set)

    before = {number: signal.signal(number, handle) for number in _STOPPING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
