"""The commands of `mageflow` and their options; each hands over to a module of its own at once."""

from importlib.metadata import version
from typing import Annotated

import typer

from mageflow.cli.demo.options import DEFAULT_FILES, MAXIMUM_FILES, DemoOptions
from mageflow.cli.demo.run import run_demo
from mageflow.cli.worker import run_worker

# Each line of an example is a paragraph of its own: one line of a paragraph would run into the next.
_EXAMPLES = """Examples:

  mageflow demo

  mageflow demo --crash

  mageflow worker shop.flows:client
"""

application = typer.Typer(
    name="mageflow",
    help="Describe flows once, run them on your task manager, see and steer them while they run.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command that `sys.argv` asks for and exit with its code: 0 done, 1 failed, 2 wrong arguments."""
    application(prog_name="mageflow")


@application.callback(invoke_without_command=True)
def mageflow(
    *, show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    """Take the options that stand before any command."""
    if show_version:
        typer.echo(f"mageflow {version('mageflow')}")
        raise typer.Exit


@application.command(epilog="Examples:\n\n  mageflow demo\n\n  mageflow demo --files 500 --crash")
def demo(
    *,
    files: Annotated[
        int, typer.Option(min=10, max=MAXIMUM_FILES, help="How many source files to read.")
    ] = DEFAULT_FILES,
    workers: Annotated[int, typer.Option(min=1, max=16, help="How many worker processes to start.")] = 2,
    crash: Annotated[
        bool, typer.Option("--crash", help="Kill a worker half-way with SIGKILL, and start another.")
    ] = False,
) -> None:
    """Report on the source files of this Python by a flow.

    Thousands of files are read by worker processes, ranked, and reported on in ./mageflow-demo/.
    It needs no server and no configuration, writes to ./mageflow-demo/ and ./.mageflow/ only, and takes about
    half a minute. It exits with 1 if the report differs from a count made without any flow.
    """
    raise typer.Exit(run_demo(DemoOptions(files=files, workers=workers, crash=crash)))


@application.command(epilog="Examples:\n\n  mageflow worker shop.flows:client\n\n  mageflow worker shop:flows.client")
def worker(
    client: Annotated[
        str, typer.Argument(metavar="MODULE:CLIENT", help="Where the client is, as seen from this directory.")
    ],
    *,
    slots: Annotated[int, typer.Option(min=1, help="How many tasks to run at a time.")] = 100,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every run, not only problems.")] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    A second signal ends it at once. It exits with 0 after a clean stop, with 1 if the worker cannot start, and
    with 2 if MODULE:CLIENT is not a client.
    """
    raise typer.Exit(run_worker(client, slots=slots, verbose=verbose))
