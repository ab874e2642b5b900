"""The notes of the error callbacks: one line of JSON per file that does not parse."""

from pathlib import Path

from pydantic import ValidationError

from mageflow.cli.demo.payloads import Failure

NOTES_NAME = "failures.jsonl"


def add_note(folder: Path, failure: Failure) -> None:
    """Append a note in one write, so that the lines of several processes never mix."""
    with (folder / NOTES_NAME).open("ab", buffering=0) as notes:
        notes.write(failure.model_dump_json().encode() + b"\n")


def read_notes(folder: Path, run: str) -> list[Failure]:
    """Return the failures noted in one run of the demo, ordered by label, each once.

    A callback whose worker was killed between the note and its own end runs again and notes the same failure again.
    """
    path = folder / NOTES_NAME
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = {failure.label: failure for failure in map(_read_note, lines) if failure and failure.run == run}
    return [found[label] for label in sorted(found)]


def _read_note(line: bytes) -> Failure | None:
    try:
        return Failure.model_validate_json(line)
    except ValidationError:  # the process was killed while it wrote this line
        return None
