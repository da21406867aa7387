"""`python -m tests.tools catalogue [--check]` writes the catalogue of edge cases: docs/edge-cases.md, docs/index.html.

edge_cases.py makes one value of both ledgers and the records of all releases; markdown_page.py and html_page.py render
it. --check writes nothing, and exits with 1 if a page is stale. The exit code is 4 if a record cannot be read.
"""

import sys
from pathlib import Path

from tests.harness.command_line import BAD_INPUT, BadInput, Parser

from .edge_cases import catalogue, read_clauses
from .html_page import to_html
from .markdown_page import to_markdown
from .records import read_records

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tests.tools catalogue"
MARKDOWN, HTML = "edge-cases.md", "index.html"


def pages(folder: Path, specification: Path = ROOT / "reference" / "README.md") -> dict[str, str]:
    """{file name: text} of both pages, from the records in the folder. Raises BadInput if a record cannot be read."""
    made = catalogue(read_records(folder), read_clauses(specification.read_text()))
    return {MARKDOWN: to_markdown(made, COMMAND), HTML: to_html(made, COMMAND)}


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write the catalogue of edge cases.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    parser.add_argument("--records", type=Path, default=ROOT / "docs" / "results", help="the folder of records")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="the folder of both pages")
    options = parser.parse_args(arguments)
    try:
        texts = pages(options.records)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    stale = [options.output / name for name, text in texts.items() if not _holds(options.output / name, text)]
    if options.check and stale:
        print(f"stale: {', '.join(map(str, stale))}; run {COMMAND}", file=sys.stderr)
        return 1
    for path in stale:
        path.write_text(texts[path.name])
    return 0


def _holds(path, text):
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
