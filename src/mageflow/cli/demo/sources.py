"""Finds the source files that the demo reads: the standard library and the installed packages of this Python."""

import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A source file: where it is, and its path as the report shows it."""

    path: str
    label: str


def find_sources(limit: int) -> tuple[SourceFile, ...]:
    """Choose up to `limit` source files, the same ones in the same order every time.

    The files that a Python's own test suite keeps to test its parser with come first, because they fail for real;
    the rest is spread evenly over all files.
    """
    places = sysconfig.get_paths()
    found = {file.label: file for file in _walk(Path(places["stdlib"]), prefix="")}
    for place in (places["purelib"], places["platlib"]):
        found |= {file.label: file for file in _walk(Path(place), prefix="site-packages/")}
    hard = [label for label in sorted(found) if _is_parser_test(label)][: limit // 2]
    others = [label for label in sorted(found) if label not in set(hard)]
    chosen = sorted([*hard, *_spread(others, limit - len(hard))])
    return tuple(found[label] for label in chosen)


def _walk(root: Path, *, prefix: str) -> Iterator[SourceFile]:
    for folder, folders, names in os.walk(root):
        # The packages may lie below the standard library: they are walked by themselves, with a prefix.
        folders[:] = [name for name in folders if name not in _PACKAGE_FOLDERS]
        below = Path(folder).relative_to(root)
        for name in names:
            if name.endswith(".py") and (path := Path(folder, name)).is_file():
                yield SourceFile(path=str(path), label=prefix + (below / name).as_posix())


def _is_parser_test(label: str) -> bool:
    path = PurePosixPath(label)
    return "lib2to3/tests/data" in label or (path.name.startswith("bad") and "test" in path.parts)


def _spread(labels: Sequence[str], count: int) -> Sequence[str]:
    if count >= len(labels):
        return labels
    return [labels[index * len(labels) // count] for index in range(count)]
