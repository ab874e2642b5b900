"""What the report found, in five sentences."""

from mageflow.cli.demo.payloads import Report


def findings(report: Report) -> tuple[str, ...]:
    """Say in five sentences of plain text what stands out; those without a subject on this machine say so."""
    ranking, totals = report.ranking, report.ranking.totals
    return (
        f"{totals.parsed:,} files hold {totals.lines:,} lines, {totals.functions:,} functions and "
        f"{totals.classes:,} classes.",
        _longest(report),
        f"Most imported: {', '.join(f'{module.name} (by {module.count:,} files)' for module in ranking.imported[:3])}."
        if ranking.imported
        else "No file imports anything.",
        f"Largest package: {ranking.packages[0].name} with {ranking.packages[0].count:,} lines; largest file: "
        f"{ranking.largest[0].name} with {ranking.largest[0].count:,}."
        if ranking.largest
        else "No file could be measured.",
        _failures(report),
    )


def _longest(report: Report) -> str:
    if not report.ranking.longest:
        return "No file holds a function."
    function = report.ranking.longest[0]
    return f"Longest function: {function.name} in {function.label}, line {function.line}, {function.lines:,} lines."


def _failures(report: Report) -> str:
    failed = report.ranking.totals.failed
    if not failed:
        return "Every file parses on this machine, so no error callback had anything to do."
    subject = f"{failed:,} files do not parse" if failed > 1 else "1 file does not parse"
    example = report.failures[0] if report.failures else None
    return f"{subject}, such as {example.label} ({example.type})." if example else f"{subject}."
