"""Writes a script and the text of an issue for each change that a run tells, or for each failed test."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.harness.expectation.dropout import UnlikeDropout
from tests.harness.judgement.comparison import ATTACHED, PATH, SETTING
from tests.harness.judgement.report import Failure
from tests.harness.judgement.wording import RULES
from tests.harness.ledgers import BY_ID
from tests.harness.measurement.news import BETTER, News
from tests.harness.measurement.record import CRASH, FAILED
from tests.harness.wrong_masks.sequences import ROWS

from .case_script import script
from .remedied import sentences
from .wrong_mask_script import wrong_mask_script

_TIMEOUT = 300  # seconds that a script may run
_RUN_AT_MOST = 10  # scripts that are run; each imports torch
_LONGEST_NAME = 60  # characters of the name of a folder
_OTHERS_AT_MOST = 50  # further failures of a test that its issue lists
_WITHOUT_SCRIPT = {SETTING, ATTACHED, PATH}  # scripts look at results, arguments and warnings


def folder_of(test: str) -> str:
    """The name of the folder of a test. test: its id in pytest."""
    name = re.sub(r"^.*/test_|\.py(?=::)|(?<=::)test_", "", test)
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def script_of(failure: Failure) -> str | None:
    """The script that shows a failure. None if the failure has no call, or if no script can judge the call."""
    if failure.row:
        return wrong_mask_script(next(call for call in ROWS if call.id == failure.row), failure.setting)
    kinds = {difference.kind for difference in failure.mismatches}
    if failure.case is None or (kinds and kinds <= _WITHOUT_SCRIPT):
        return None
    try:
        return script(failure.case, failure.setting, after=failure.first)
    except UnlikeDropout:  # no script can tell which elements dropout should have kept
        return None


def file_failures(record: dict, folder: str | Path) -> list[Path]:
    """Write folder/<release>/<test>/ for each failed test of a record, and return the paths of these folders.

    script.py needs only torch; issue.md can be pasted into an issue. Both show the first failure of the test for which
    there is a script. A test without one gets no folder.

    record: plain data (measurement/record.py).
    """
    release = record["environment"]["torch"].split("+")[0]
    written: list[Path] = []
    for test, result in record["tests"].items():
        if result["outcome"] not in (FAILED, CRASH):
            continue
        failures = [Failure.from_plain(plain) for plain in result.get("failures", ())]
        failure, text = next(((its, text) for its in failures if (text := script_of(its))), (None, None))
        if failure is None:
            continue
        place = Path(folder) / release / folder_of(test)
        others = [its for its in failures if its is not failure]
        _write(place, failure, text, record["environment"], others, runs=len(written) < _RUN_AT_MOST)
        written.append(place)
    return written


def file_news(news: Sequence[News], environment: dict, folder: str | Path) -> list[News]:
    """Write folder/<release>/<change>/ for each change for the worse. Returns the news with these folders.

    The files are those of `file_failures`. environment: of the record.
    """
    release, filed, names = environment["torch"].split("+")[0], [], set()
    for its in news:
        failure, text = next(((call, text) for call in its.group.calls if (text := script_of(call))), (None, None))
        if failure is None or its.section == BETTER:
            filed.append(its)
            continue
        name = _name_of(its, failure)
        name = next(f"{name}{number}" for number in ("", *range(2, 10_000)) if f"{name}{number}" not in names)
        names.add(name)
        others = [call for call in its.group.calls if call is not failure]
        place = Path(folder) / release / name
        _write(place, failure, text, environment, others, runs=len(names) <= _RUN_AT_MOST)
        filed.append(replace(its, folder=_from_here(place)))
    return filed


def _from_here(place):
    """The path, relative to the working directory if it is below."""
    return place.relative_to(Path.cwd()).as_posix() if Path.cwd() in place.parents else place.as_posix()


def _name_of(news, failure):
    """The name of the folder of a change: the entries that have changed, or the module and the difference."""
    words = "-".join(news.explanation.entries) or f"{failure.module}-{failure.title.partition(': ')[2]}"
    return re.sub(r"[^\w.-]+", "-", words)[:_LONGEST_NAME].strip("-.")


def _write(place, failure, text, environment, others, runs):
    """Write both files. text: the script. others: further failures. runs: True to run the script for its output."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "script.py").write_text(text)
    output = _output(place / "script.py") if runs else "(not run, as there are many failures)"
    (place / "issue.md").write_text(issue(failure, text, output, environment, others))


def _output(path):
    """The output of the script with the installed torch, and its exit code."""
    try:
        run = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"(stopped after {_TIMEOUT} s)"
    return f"{run.stdout}{run.stderr}(exit code {run.returncode})"


# ---- the text of an issue ------------------------------------------------------------------------------------------


def issue(failure: Failure, text: str, output: str, environment: dict, others: Sequence[Failure] = ()) -> str:
    """The text of an issue, in Markdown.

    text: the script. output: its output. environment: of the record. others: further failures of the same test.
    """
    lines = [
        f"# {failure.title}",
        "",
        *_more(failure),
        "## Expected",
        "",
        *_expected(failure),
        "",
        "The expected numbers come from a reference in NumPy that follows the documentation and computes in float64.",
        "",
        "## To reproduce",
        "",
        "```python",
        text.rstrip(),
        "```",
        "",
        "It exits with 1 if the release has the bug, 0 if not, 2 if the release lacks the call. Its output here:",
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
    """Generates lines with the paths that served the call and with further differences."""
    if failure.served:
        yield from (f"The call is served by: {', '.join(failure.served)}.", "")
    if further := failure.mismatches[1:]:
        yield from ("Further differences:", "", *(f"- {difference.says}" for difference in further), "")


def _expected(failure):
    """Generates lines with the broken clauses and the note."""
    if failure.note:
        yield from (failure.note, "")
    for rule in failure.rules:
        number, sentence = RULES[rule]
        yield f"{number}. {sentence}."


def _remedies(failure):
    """Generates lines with the remedies of the known deviations that the call shows."""
    if not failure.deviations:
        return
    yield from ("## Known deviations of this call", "")
    yield from ("The expected result contains these known deviations of the release. To avoid them:", "")
    for id in failure.deviations:
        yield from (f"- {id}: {sentence}" for sentence in sentences(BY_ID[id]))
    yield ""


def _others(failures):
    """Generates lines with the titles of further failures of the test."""
    if failures:
        yield from ("## Other calls that fail", "")
        yield from (f"- {failure.title}" for failure in failures[:_OTHERS_AT_MOST])
        yield from ([f"- and {len(failures) - _OTHERS_AT_MOST} more"] if len(failures) > _OTHERS_AT_MOST else [])
        yield ""
