"""What the `mageflow` command does on a machine without the extra `cli`."""

import sys


def main() -> None:
    """Say which extra is missing, on standard error, and exit with 1."""
    sys.exit("mageflow: the command line needs typer and rich; install them with: pip install 'mageflow[cli]'")
