"""`python -m tests.tools clauses [--check]` writes the tables of clauses and their tests into reference/README.md.

The first table lists the simplest calls of each clause. The second has the number of calls of a whole run that exercise
each clause, by test; its numbers come from the newest record of a CPU that has them. --check writes nothing, and exits
with 1 if the tables are stale. The exit code is 4 if a record cannot be read.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.conformance.test_clauses import CALLS
from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.expectation.clauses import CLAUSES

from .records import Record, read_records

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))
PAGE, RECORDS = ROOT / "reference" / "README.md", ROOT / "docs" / "results"
COMMAND = "python -m tests.tools clauses"
BEGIN, END = f"<!-- Written by `{COMMAND}`. -->", "<!-- The end of what is written. -->"


def conformance_tests() -> Iterator[str]:
    """Generates the conformance tests as "file::function", in the order of the files."""
    for path in TESTS:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{path.name}::{node.name}"


def page(text: str, records: Iterable[Record]) -> str:
    """The text of reference/README.md with new tables. Raises BadInput if BEGIN or END is missing.

    records: sorted by version.
    """
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not (begins and ends):
        raise BadInput(f"{PAGE}: lacks one of the lines {BEGIN} and {END}")
    counting = [record for record in records if record.device == "cpu" and record.clauses]
    lines = [*_simplest_calls(), *(_calls_by_test(counting[-1]) if counting else ())]
    return before + "\n".join([BEGIN, "", *lines, "", END]) + after


def _simplest_calls():
    """The lines of the table of clauses, with the simplest calls of each clause."""
    yield from ("| clause | about | simplest calls |", "| --- | --- | --- |")
    for clause in CLAUSES:
        names = ", ".join(f"`{name}`" for name in CALLS[clause.number])
        yield f"| clause {clause.number} | {clause.title} | {names} |"


def _calls_by_test(record):
    """The lines of the table of tests, with the number of calls for each clause."""
    yield from (
        "",
        f"Calls of a whole run on {record.version} that exercise each clause ({record.profile} profile):",
        "",
    )
    numbers = [clause.number for clause in CLAUSES]
    yield f"| test | {' | '.join(map(str, numbers))} |"
    yield f"| --- |{' ---: |' * len(numbers)}"
    for test in conformance_tests():
        counts = record.clauses.get(test, Counter())
        yield _row(short(test), [counts[number] for number in numbers])
    total = sum(record.clauses.values(), Counter())
    yield _row("all tests", [total[number] for number in numbers])


def _row(name, calls):
    return f"| {name} | {' | '.join(f'{number:,}' if number else '' for number in calls)} |"


def short(test: str) -> str:
    """The name of a test in the table: "file::test_name" without both prefixes "test_" and without ".py"."""
    return test.removeprefix("test_").replace(".py::test_", ": ")


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write the tables of clauses and their tests.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the tables are stale")
    parser.add_argument("--records", type=Path, default=RECORDS, help="the folder of records")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the tables")
    options = parser.parse_args(arguments)
    try:
        text = options.page.read_text()
        written = page(text, read_records(options.records))
    except (BadInput, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    if options.check and written != text:
        print(f"stale: {options.page}; run {COMMAND}", file=sys.stderr)
        return 1
    if written != text:
        options.page.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
