"""The command itself: version, help, and a machine without its libraries."""

import subprocess
import sys
from importlib.metadata import version

from tests.cli.conftest import CommandLine


def test_version_is_that_of_the_package(command_line: CommandLine) -> None:
    """`mageflow --version` prints the installed version and exits with 0."""
    assert command_line.run("--version") == (0, f"mageflow {version('mageflow')}\n")


def test_help_names_every_command_with_examples(command_line: CommandLine) -> None:
    """`mageflow --help` lists the commands and shows how to call them."""
    code, output = command_line.run("--help")
    assert code == 0
    for expected in ("demo", "worker", "Examples:", "mageflow demo --crash", "mageflow worker shop.flows:client"):
        assert expected in output


def test_unknown_command_is_refused(command_line: CommandLine) -> None:
    """A command that does not exist is named and exits with 2."""
    code, output = command_line.run("dmo")
    assert code == 2
    assert "dmo" in output


def test_without_its_libraries_the_command_names_the_extra() -> None:
    """Without typer the command says which extra to install and exits with 1."""
    program = "import sys; sys.modules['typer'] = None; from mageflow.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install 'mageflow[cli]'" in ended.stderr
    assert "Traceback" not in ended.stderr
