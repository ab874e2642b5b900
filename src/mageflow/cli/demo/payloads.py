"""The messages and results of the demo's tasks."""

from pydantic import BaseModel

from mageflow import ErrorValue, ReturnValue


class ParseFile(BaseModel):
    """One source file to read; `label` is its path as the report shows it."""

    path: str
    label: str


class FunctionFacts(BaseModel):
    """A function with its file, the line where it starts and its length in lines."""

    name: str
    label: str
    line: int
    lines: int


class FileFacts(BaseModel):
    """What one source file holds, who read it and how long that took.

    Attributes:
        longest: The longest function of the file, if it has one.
        imports: The top-level modules it imports, each once; relative imports are left out.
        process: The id of the worker process that read it.
    """

    label: str
    lines: int
    functions: int
    classes: int
    longest: FunctionFacts | None
    imports: list[str]
    process: int
    milliseconds: float


class RankFiles(BaseModel):
    """The facts of every file that parsed, in the order of the swarm's members, and how many files there were."""

    facts: ReturnValue[list[FileFacts]]
    requested: int


class Totals(BaseModel):
    """Sums over the files that parsed, and how many did not."""

    parsed: int
    failed: int
    lines: int
    functions: int
    classes: int


class Counted(BaseModel):
    """A name and the number that ranks it."""

    name: str
    count: int


class ProcessShare(BaseModel):
    """What one worker process did."""

    process: int
    files: int
    seconds: float


class Ranking(BaseModel):
    """The facts of all files, summed and ranked; every list has its greatest first."""

    totals: Totals
    longest: list[FunctionFacts]
    imported: list[Counted]
    largest: list[Counted]
    packages: list[Counted]
    processes: list[ProcessShare]


class RenderReport(BaseModel):
    """A ranking to make a report of; `folder` is where the notes on failures lie."""

    ranking: ReturnValue[Ranking]
    run: str
    folder: str


class Failure(BaseModel):
    """The note of an error callback: which file did not parse in which run of the demo, and why."""

    run: str
    label: str
    type: str
    message: str


class NoteFailure(BaseModel):
    """The message of a failed `parse-file`, with what the callback itself is bound to and the error."""

    label: str
    run: str
    folder: str
    error: ErrorValue


class Report(BaseModel):
    """Everything that the report says, as data.

    Attributes:
        failures: Those noted until the report was rendered, ordered by label; `ranking.totals.failed` counts all.
    """

    run: str
    python: str
    ranking: Ranking
    failures: list[Failure]


class RenderedReport(BaseModel):
    """The report as a page, as Markdown and as data."""

    page: str
    markdown: str
    report: Report


class WriteReport(BaseModel):
    """A rendered report and the folder that it goes to."""

    rendered: ReturnValue[RenderedReport]
    folder: str
