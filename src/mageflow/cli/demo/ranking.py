"""Sums and ranks the facts of all files."""

from collections import Counter
from collections.abc import Iterable, Sequence

from mageflow.cli.demo.payloads import Counted, FileFacts, ProcessShare, Ranking, Totals

_ROWS = 12


def rank(facts: Sequence[FileFacts], *, requested: int) -> Ranking:
    """Rank what the files hold; of the `requested` files, those without facts have failed."""
    longest = sorted(
        (file.longest for file in facts if file.longest), key=lambda function: function.lines, reverse=True
    )
    lines_by_package = Counter[str]()
    for file in facts:
        lines_by_package[_package(file.label)] += file.lines
    return Ranking(
        totals=Totals(
            parsed=len(facts),
            failed=requested - len(facts),
            lines=sum(file.lines for file in facts),
            functions=sum(file.functions for file in facts),
            classes=sum(file.classes for file in facts),
        ),
        longest=longest[:_ROWS],
        imported=_most_common(Counter(module for file in facts for module in file.imports)),
        largest=_most_common(Counter({file.label: file.lines for file in facts})),
        packages=_most_common(lines_by_package),
        processes=list(_shares(facts)),
    )


def _most_common(counts: Counter[str]) -> list[Counted]:
    return [Counted(name=name, count=count) for name, count in counts.most_common(_ROWS)]


def _shares(facts: Sequence[FileFacts]) -> Iterable[ProcessShare]:
    files = Counter(file.process for file in facts)
    milliseconds = Counter[int]()
    for file in facts:
        milliseconds[file.process] += round(file.milliseconds * 1000)
    for process, count in files.most_common():
        yield ProcessShare(process=process, files=count, seconds=round(milliseconds[process] / 1_000_000, 2))


def _package(label: str) -> str:
    """Return the package of a file: `json` for `json/decoder.py`, `site-packages/rich` for one of that package."""
    parts = label.split("/")
    kept = 2 if parts[0] == "site-packages" else 1
    return "/".join(parts[:kept]) if len(parts) > kept else "/".join([*parts[: kept - 1], "(single files)"])
