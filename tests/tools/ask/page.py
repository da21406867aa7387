"""`python -m tests.tools ask-page [--check]` writes the answers into docs/ask.md.

A block of code that begins with a command for ask is followed by a block with its answer, without the sentences at the
end. --check writes nothing, and exits with 1 if an answer is stale.
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

from tests.harness.command_line import Parser

from . import command

PAGE = Path(__file__).parents[3] / "docs" / "ask.md"
COMMAND = "python -m tests.tools ask-page"
_EXAMPLE = re.compile(r"```sh\n(python -m tests\.tools ask .*?)```\n\n```text\n.*?```\n", re.DOTALL)


def page(text: str) -> str:
    """The text of the page with new answers."""
    return _EXAMPLE.sub(lambda found: f"```sh\n{found[1]}```\n\n```text\n{answer(found[1])}```\n", text)


def answer(line: str) -> str:
    """The output of the command in a line, without the sentences at the end."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        command.main(shlex.split(line.replace("\\\n", ""))[4:])
    lines = [line.rstrip() for line in printed.getvalue().partition("\n\nPredicted for ")[0].rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write the answers into docs/ask.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if an answer is stale")
    options = parser.parse_args(arguments)
    text = PAGE.read_text(encoding="utf-8")
    written = page(text)
    if options.check and written != text:
        print(f"stale: {PAGE}; run {COMMAND}", file=sys.stderr)
        return 1
    if written != text:
        PAGE.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
