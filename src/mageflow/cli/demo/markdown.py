"""The report as Markdown."""

import re
from collections.abc import Iterable, Sequence

from mageflow.cli.demo.findings import findings
from mageflow.cli.demo.payloads import Counted, Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def render_markdown(report: Report) -> str:
    """Render the report as GitHub Markdown; names and messages out of files cannot act as markup."""
    totals = report.ranking.totals
    sections = (
        f"# What {totals.parsed + totals.failed:,} source files of Python {report.python} hold",
        "\n".join(f"- {_text(finding)}" for finding in findings(report)),
        "## Longest functions\n\nThe longest of each file.",
        _table(
            ("Function", "File", "Line", "Lines"),
            (
                (_code(function.name), _code(function.label), f"{function.line}", f"{function.lines:,}")
                for function in report.ranking.longest
            ),
        ),
        "## Most imported modules",
        _counts("Module", "Files", report.ranking.imported),
        "## Largest packages",
        _counts("Package", "Lines", report.ranking.packages),
        "## Largest files",
        _counts("File", "Lines", report.ranking.largest),
        f"## Files that do not parse: {totals.failed:,}",
        _table(
            ("File", "Error", "Message"),
            ((_code(failure.label), _code(failure.type), _code(failure.message)) for failure in report.failures),
        ),
        "## Worker processes",
        _table(
            ("Process", "Files", "Seconds of parsing"),
            ((f"{share.process}", f"{share.files:,}", f"{share.seconds:.2f}") for share in report.ranking.processes),
        ),
    )
    return "\n\n".join(sections) + "\n"


def _counts(name: str, unit: str, rows: Iterable[Counted]) -> str:
    return _table((name, unit), ((_code(row.name), f"{row.count:,}") for row in rows))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else "None."


def _code(text: str) -> str:
    """Return text as a code span, in which a table knows nothing special but `|` and the end of the span."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
