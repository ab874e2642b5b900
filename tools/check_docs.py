"""Fail on links in the documentation that lead nowhere inside the repository."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.MULTILINE)


def list_documents() -> list[Path]:
    """Return every Markdown file that readers get."""
    folders = [path for name in ("docs", "examples", "bench") for path in Path(name).rglob("*.md")]
    return sorted([*Path().glob("*.md"), *folders])


def make_anchor(heading: str) -> str:
    """Return the anchor that renderers give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def find_broken(path: Path) -> Iterator[str]:
    """Yield the links of a document that lead nowhere."""
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        if not linked.exists():
            yield f"{path}: {target}: there is no such file"
        elif anchor and linked.suffix == ".md":
            headings = HEADING.findall(linked.read_text(encoding="utf-8"))
            if anchor not in {make_anchor(heading) for heading in headings}:
                yield f"{path}: {target}: there is no such heading"


def main() -> int:
    """Check every document and print what is broken."""
    documents = list_documents()
    broken = [fault for path in documents for fault in find_broken(path)]
    print(*broken, f"{len(documents)} documents, {len(broken)} broken links", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
