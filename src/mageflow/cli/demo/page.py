"""The report as a page of HTML: one file that asks nothing of the network, in light and dark."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template

from mageflow.cli.demo.findings import findings
from mageflow.cli.demo.payloads import Counted, Report


def render_page(report: Report) -> str:
    """Render the report as HTML; every name and message out of files is escaped."""
    ranking, totals = report.ranking, report.ranking.totals
    requested = totals.parsed + totals.failed
    files = resources.files("mageflow.cli.demo")
    return Template(files.joinpath("page.html").read_text("utf-8")).substitute(
        style=files.joinpath("page.css").read_text("utf-8"),
        title=escape(f"What {requested:,} source files of Python {report.python} hold"),
        findings="".join(f"<li>{escape(finding)}</li>" for finding in findings(report)),
        tiles=_tiles(
            (totals.parsed, "files read"),
            (totals.lines, "lines"),
            (totals.functions, "functions"),
            (totals.classes, "classes"),
            (totals.failed, "files that do not parse"),
        ),
        requested=f"{requested:,}",
        parsed=f"{totals.parsed:,}",
        failed=f"{totals.failed:,}",
        imported=_bars("Module", "Files", ranking.imported),
        packages=_bars("Package", "Lines", ranking.packages),
        largest=_bars("File", "Lines", ranking.largest),
        longest=_table(
            ("Function", "File", "Lines"),
            (
                (_code(function.name), _code(f"{function.label}:{function.line}"), f"{function.lines:,}")
                for function in ranking.longest
            ),
        ),
        failures=_table(
            ("File", "Error", "Message"),
            ((_code(failure.label), escape(failure.type), escape(failure.message)) for failure in report.failures),
        ),
        processes=_bars(
            "Process",
            "Files",
            [Counted(name=f"{share.process}, {share.seconds:.1f} s", count=share.files) for share in ranking.processes],
        ),
    )


def _tiles(*tiles: tuple[int, str]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{count:,}</dd></div>" for count, name in tiles)


def _bars(name: str, unit: str, rows: Sequence[Counted]) -> str:
    """Return a table with a bar behind each row, as long as the row's share of the greatest."""
    greatest = max((row.count for row in rows), default=0) or 1
    return _table(
        (name, unit),
        ((f'{_code(row.name)}<i style="width:{row.count / greatest:.1%}"></i>', f"{row.count:,}") for row in rows),
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are markup already; a last column of numbers stands to the right."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    kind = "text" if titles[-1] == "Message" else "numbers"
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
