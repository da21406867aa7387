"""The scripts of all entries of both ledgers agree with the harness on the installed release.

The environment of each release runs these tests. Together they run each script on releases with and without the bug.
"""

import json
from pathlib import Path

import pytest
from packaging.version import Version

from tests.harness.deviations import ledger
from tests.harness.execution.release import Release, installed
from tests.harness.judgement.verdict import FAILS
from tests.harness.ledgers import ENTRIES
from tests.harness.measurement.session import CHANGED, PRESENT
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks import outcome, table
from tests.harness.wrong_masks.judge import judge_row
from tests.tools.case_script import ERRORS
from tests.tools.reproduce import first_row, script_of_entry, shown_by

from .running import CANNOT_BE_ASKED, kinds_of, mismatches, run_script

RELEASE = installed()
RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_script_of_an_entry_shows_what_its_pinned_case_shows(entry, run):
    is_deadly = entry.may_end_the_process and entry.concerns(RELEASE)
    code, output, _ = run_script(script_of_entry(entry), apart=is_deadly)
    if not RELEASE.offers(entry.pinned):
        assert code == CANNOT_BE_ASKED, output
        return
    if is_deadly:
        assert code < 0, output  # a signal
        return
    shown = kinds_of(mismatches(entry.pinned))
    assert code == bool(shown & {*shown_by(entry), ERRORS}), output
    if run.findings[entry.id].status == PRESENT:
        assert code == 1, output


@pytest.mark.parametrize("entry", wrong_masks_ledger.ENTRIES, ids=lambda entry: entry.id)
def test_script_of_a_wrong_mask_shows_what_its_row_shows(entry, run):
    row = first_row(entry)
    code, output, _ = run_script(script_of_entry(entry))
    assert (code == CANNOT_BE_ASKED) == ("has no" in (table.not_applicable(row, RELEASE) or "")), output
    if not table.not_applicable(row, RELEASE):
        judgement = judge_row(row, outcome.observe(row), RELEASE, ())
        assert code == (judgement.status == FAILS), output
    if entry.concerns(RELEASE):
        assert code == 1, output


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_each_entry_has_a_release_on_both_sides_of_its_range(entry):
    """On CUDA only one release has been measured, which is inside the range of every entry."""
    device = entry.devices[0]
    versions = {json.loads(path.read_text())["environment"]["torch"] for path in RESULTS.glob(f"*-{device}.json")}
    inside = {entry.concerns(Release(Version(version), device)) for version in versions}
    assert inside >= ({True} if device == "cuda" or entry.affects == ">=1.13" else {True, False})


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_pinned_case_has_changed_in_a_record(path):
    found = json.loads(path.read_text())["ledger"]
    assert not [id for id, finding in found.items() if finding["status"] == CHANGED]
