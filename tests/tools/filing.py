"""Files a bug: a script and the text of an issue, for each test of a run that failed."""

import re
import subprocess
import sys
from pathlib import Path

from tests.harness.deviations import ledger
from tests.harness.expectation.dropout import UnlikeDropout
from tests.harness.judgement.report import Failure
from tests.harness.judgement.wording import RULES
from tests.harness.measurement.record import CRASH, FAILED
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.sequences import ROWS

from .case_script import script
from .remedied import sentences
from .wrong_mask_script import wrong_mask_script

_TIMEOUT = 300  # seconds
_RUN_AT_MOST = 10  # each imports torch
_OTHERS_AT_MOST = 50  # failures of one test that its issue lists


def folder_of(test):
    """The name of a folder for a test, from its id."""
    name = re.sub(r"^.*/test_|\.py(?=::)|(?<=::)test_", "", test)
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def script_of(failure):
    """The script that shows a Failure, or None if it is told by no call, or by one that no script can judge."""
    if failure.row:
        return wrong_mask_script(next(call for call in ROWS if call.id == failure.row), failure.setting)
    if failure.case is None:
        return None
    try:
        return script(failure.case, failure.setting, after=failure.first)
    except UnlikeDropout:  # no script can tell what should have been kept
        return None


def file_failures(record, folder):
    """Write folder/<release>/<test>/ for each test of a record that failed; the paths of what was written.

    script.py stands alone, issue.md can be pasted; both are of the first failure that a script can show.
    """
    release = record["environment"]["torch"].split("+")[0]
    written = []
    for test, result in record["tests"].items():
        if result["outcome"] not in (FAILED, CRASH):
            continue
        failures = [Failure.from_plain(plain) for plain in result.get("failures", ())]
        failure, text = next(((its, text) for its in failures if (text := script_of(its))), (None, None))
        if failure is None:
            continue
        place = Path(folder) / release / folder_of(test)
        place.mkdir(parents=True, exist_ok=True)
        (place / "script.py").write_text(text)
        output = (
            _output(place / "script.py") if len(written) < _RUN_AT_MOST else "(not run: there are too many failures)"
        )
        others = [its for its in failures if its is not failure]
        (place / "issue.md").write_text(issue(failure, text, output, record["environment"], others))
        written.append(place)
    return written


def _output(path):
    """What the script prints on the torch that is installed, and its exit code."""
    try:
        run = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"(no end after {_TIMEOUT} s)"
    return f"{run.stdout}{run.stderr}(exit code {run.returncode})"


# ---- the text of an issue ------------------------------------------------------------------------------------------


def issue(failure, text, output, environment, others=()):
    """The text. text, output: the script, and what it printed. others: Failures of the same test."""
    lines = [
        f"# {failure.title}",
        "",
        *_more(failure),
        "## Expected",
        "",
        *_expected(failure),
        "",
        "The expected numbers come from a reference in NumPy, in float64, that follows the documentation.",
        "",
        "## To reproduce",
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
        *_others(others),
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


def _more(failure):
    """What the title does not say."""
    if failure.served:
        yield from (f"The call is served by: {', '.join(failure.served)}.", "")
    if further := failure.mismatches[1:]:
        yield from ("It differs in more than that:", "", *(f"- {difference.says}" for difference in further), "")


def _expected(failure):
    if failure.note:
        yield from (failure.note, "")
    for rule in failure.rules:
        number, sentence = RULES[rule]
        yield f"{number}. {sentence}."


def _remedies(failure):
    """What to do about the deviations that are known to meet in the call."""
    if not failure.deviations:
        return
    entries = {entry.id: entry for entry in (*ledger.ENTRIES, *wrong_masks_ledger.ENTRIES)}
    yield from ("## What to do about what is known here", "")
    yield from ("What is expected is what the ledger knows of this release:", "")
    for id in failure.deviations:
        yield from (f"- {id}: {sentence}" for sentence in sentences(entries[id]))
    yield ""


def _others(failures):
    """Further failures of the test, of which each has a call of its own."""
    if failures:
        yield from ("## Other calls of the same test that fail", "")
        yield from (f"- {failure.title}" for failure in failures[:_OTHERS_AT_MOST])
        yield from ([f"- and {len(failures) - _OTHERS_AT_MOST} more"] if len(failures) > _OTHERS_AT_MOST else [])
        yield ""
