"""What a failing run leaves behind for whoever files the bug: a script and the text of an issue, for each failure."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.harness.deviations import ledger
from tests.harness.execution.setting import Setting
from tests.harness.expectation.dropout import UnlikeDropout
from tests.harness.measurement.record import CRASH, FAILED
from tests.harness.modes.spelling import parse
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.sequences import ROWS

from .case_script import script
from .edge_cases import read_clauses
from .remedied import sentences
from .wrong_mask_script import wrong_mask_script

_SPECIFICATION = Path(__file__).parents[2] / "reference" / "README.md"
_TIMEOUT = 300  # seconds
_RUN_AT_MOST = 10  # each imports torch


@dataclass(frozen=True)
class Failure:
    """A test that failed. message: what it said."""

    test: str
    message: str

    @property
    def id(self):
        """A name for a folder."""
        name = re.sub(r"^.*/test_|\.py(?=::)|(?<=::)test_", "", self.test)
        return re.sub(r"[^\w.-]+", "-", name).strip("-")

    @property
    def differences(self):
        """The lines that say what differs."""
        return re.findall(r"^ {4}((?:\S.*: |)expected .*|got {6}.*)$", self.message, re.MULTILINE)

    @property
    def clauses(self):
        """The numbers of the clauses that are broken."""
        named = re.findall(r"clause (\d+)(?: (to|and) (\d+))?", self.message)
        return sorted({n for first, how, last in named for n in _numbers(int(first), how, int(last or first))})

    def script(self, setting):
        """The script that shows it in this Setting, or None if the message has no case."""
        if cases := re.search(r'tests\.tools\.again "([^"]*)"(?:.* --after "([^"]*)")?', self.message):
            try:
                return script(parse(cases[1]), setting, after=parse(cases[2]) if cases[2] else None)
            except UnlikeDropout:  # no script can tell what should have been kept
                return None
        if row := re.search(r"^Row: (\S+)$", self.message, re.MULTILINE):
            return wrong_mask_script(next(call for call in ROWS if call.id == row[1]), setting)
        return None


def _numbers(first, how, last):
    return range(first, last + 1) if how == "to" else (first, last)


def file_failures(record, folder):
    """Write folder/<release>/<id>/ for each failure of a record; the paths of what was written.

    script.py stands alone, issue.md can be pasted. A test that failed without a case leaves none.
    """
    environment = record["environment"]
    release = environment["torch"].split("+")[0]
    setting = Setting(environment["device"], environment.get("import"), environment.get("subject"))
    written = []
    for test, result in record["tests"].items():
        failure = Failure(test, result.get("message", ""))
        if result["outcome"] not in (FAILED, CRASH) or not (text := failure.script(setting)):
            continue
        place = Path(folder) / release / failure.id
        place.mkdir(parents=True, exist_ok=True)
        (place / "script.py").write_text(text)
        output = (
            _output(place / "script.py") if len(written) < _RUN_AT_MOST else "(not run: there are too many failures)"
        )
        (place / "issue.md").write_text(issue(failure, text, output, environment))
        written.append(place)
    return written


def _remedies(failure):
    """What to do about the deviations that are known to meet in the call."""
    found = re.search(
        r"the deviations that the ledger knows here: (.*)|what the ledger knows here: (\S+),", failure.message
    )
    if found is None:
        return
    entries = {entry.id: entry for entry in (*ledger.ENTRIES, *wrong_masks_ledger.ENTRIES)}
    yield from ("## What to do about what is known here", "")
    for id in re.split(", ", found[1] or found[2]):
        yield from (f"- {id}: {sentence}" for sentence in sentences(entries[id]))
    yield ""


def _output(path):
    """What the script prints on the torch that is installed, and its exit code."""
    try:
        run = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"(no end after {_TIMEOUT} s)"
    return f"{run.stdout}{run.stderr}(exit code {run.returncode})"


def issue(failure, text, output, environment):
    """The text of an issue."""
    clauses = read_clauses(_SPECIFICATION.read_text())
    module = failure.message.partition(" ")[0] or "attention"
    lines = [
        f"# {module}: {next(iter(failure.differences), 'wrong under this mask')}",
        "",
        "## What happens",
        "",
        *(f"    {line}" for line in failure.differences),
        "",
        "## What is expected",
        "",
        *(f"{number}. {clauses[number]}" for number in failure.clauses if number in clauses),
        "",
        "The expected numbers come from a reference in NumPy, in float64, that follows the documentation.",
        "",
        "## To see it",
        "",
        "```python",
        text.rstrip(),
        "```",
        "",
        "It exits 1 where the bug is, 0 where it is not, 2 where the release lacks what is called. Here it says:",
        "",
        "```",
        output.rstrip(),
        "```",
        "",
        *_remedies(failure),
        "## Releases",
        "",
        "| release | |",
        "| --- | --- |",
        f"| {environment['torch']} | bug |",
        "",
        "## Environment",
        "",
        *(f"- {name}: {value}" for name, value in environment.items() if value and name != "ledger"),
        "",
    ]
    return "\n".join(lines)
