"""`python -m tests.tools catalogue [--check]` writes the catalogue of edge cases into docs: edge-cases.md, index.html,
edge-cases.json with its schema, and a script for each entry.

edge_cases.py makes one value of both ledgers and the records of all releases; markdown_page.py and site/ render it.
--check writes nothing, and exits with 1 if a file is stale. The exit code is 4 if a record cannot be read.
"""

import sys
from pathlib import Path

from tests.harness.command_line import BAD_INPUT, BadInput, Parser

from .edge_cases import catalogue, read_clauses
from .markdown_page import to_markdown
from .records import read_records
from .site.data import schema, to_json
from .site.html_page import to_html

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tests.tools catalogue"
MARKDOWN, HTML, DATA, SCHEMA = "edge-cases.md", "index.html", "edge-cases.json", "edge-cases.schema.json"
SCRIPTS = "scripts"  # a folder
WORKS = ROOT / "docs" / "what-works.json"  # written by python -m tests.tools works


def pages(folder: Path, specification: Path = ROOT / "reference" / "README.md") -> dict[str, str]:
    """{file name: text} of all files, from the records in the folder. Raises BadInput if a record cannot be read."""
    made = catalogue(read_records(folder), read_clauses(specification.read_text()))
    return {
        MARKDOWN: to_markdown(made, COMMAND),
        HTML: to_html(made, COMMAND, WORKS.read_text() if WORKS.is_file() else ""),
        DATA: to_json(made, COMMAND),
        SCHEMA: schema(made),
        **{f"{SCRIPTS}/{case.id}.py": case.code for case in made.cases},
    }


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write the catalogue of edge cases.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    parser.add_argument("--records", type=Path, default=ROOT / "docs" / "results", help="the folder of records")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="the folder to write to")
    options = parser.parse_args(arguments)
    try:
        texts = pages(options.records)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    stale = [name for name, text in texts.items() if not _holds(options.output / name, text)]
    gone = [path for path in (options.output / SCRIPTS).glob("*.py") if f"{SCRIPTS}/{path.name}" not in texts]
    if options.check and (stale or gone):
        names = ", ".join(str(options.output / name) for name in (*stale, *gone))
        print(f"stale: {names}; run {COMMAND}", file=sys.stderr)
        return 1
    (options.output / SCRIPTS).mkdir(exist_ok=True)
    for name in stale:
        (options.output / name).write_text(texts[name])
    for path in gone:
        path.unlink()
    return 0


def _holds(path, text):
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
