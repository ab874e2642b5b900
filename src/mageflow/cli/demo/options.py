"""What a user may choose about the demo."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_FILES = 2_000
MAXIMUM_FILES = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """The options of one `mageflow demo`.

    Attributes:
        files: How many source files to read, at most; a small Python installation may have fewer.
        workers: How many worker processes to start.
        crash: Kill one worker with SIGKILL half-way, and start another.
        folder: Where reports, notes and the workers' logs go.
    """

    files: int = DEFAULT_FILES
    workers: int = 2
    crash: bool = False
    folder: Path = Path("mageflow-demo")
