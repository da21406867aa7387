"""Every remedy on the installed release: a call that shows an entry must conform after the change by the remedy."""

import random

import pytest

from tests.harness.cases.spelling import shortest_repr
from tests.harness.deviations import ledger
from tests.harness.deviations.remedies import ENOUGH, FEWER
from tests.harness.measurement.session import PRESENT
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.judge import rows_of

from . import wrong_calls
from .showing import asked, outcome

ENTRIES = pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
SECONDS = 120  # of CPU time for the search for calls; enough for slow machines


def is_shown(entry, run):
    """True if this release has the deviation of the entry on this machine."""
    is_there = entry.is_asked_late or run.findings[entry.id].status == PRESENT
    return entry.concerns(run.release) and run.release.offers(entry.pinned) and is_there and not entry.ends


def failures(remedy, cases, run):
    """A line of text for each case that does not conform after the change by the remedy."""
    changed = [remedy.applied(case, run.release.version) for case in cases]
    outcomes = ((case, outcome(case, run)) for case in changed)
    return [f"{shortest_repr(case)}: {said}" for case, said in outcomes if said]


@ENTRIES
def test_what_a_remedy_makes_of_calls_conforms(entry, run, request):
    if not is_shown(entry, run):
        pytest.skip("this release does not show the entry on this machine")
    remedies = [remedy for remedy in entry.remedies if remedy.holds_in(run.release.version) and not remedy.upgrade]
    number, _ = FEWER.get(entry.id, (ENOUGH, ""))
    found = asked(entry, remedies, run, number, SECONDS, request.config.getoption("hypothesis_seed") or 0)
    for remedy, cases in zip(remedies, found.values(), strict=True):
        generated = len(cases) - (entry.pinned in cases)
        print(f"{entry.id}: {generated} generated calls: {remedy.text}")
        assert generated >= number, f"{entry.id}: only {generated} calls were found for: {remedy.text}"
        assert not (wrong := failures(remedy, cases, run)), f"{entry.id}: {remedy.text}\n" + "\n".join(wrong)


@ENTRIES
def test_a_release_that_is_a_remedy_does_what_is_specified(entry, run):
    if not any(remedy.upgrade and remedy.holds_in(run.release.version) for remedy in entry.remedies):
        pytest.skip("no remedy is an upgrade to this release")
    assert outcome(entry.pinned, run) is None


@pytest.mark.parametrize("entry", wrong_masks_ledger.ENTRIES, ids=lambda entry: entry.id)
def test_what_a_remedy_makes_of_wrong_masks_is_accepted_or_refused_by_name(entry, run):
    if not entry.concerns(run.release):
        pytest.skip("the entry is for other releases")
    rows = rows_of(entry, run.release)
    for remedy in entry.remedies:
        if not remedy.holds_in(run.release.version):
            continue
        calls = [call for call in rows if remedy.check or remedy.applied(call, run.release.version)]
        assert calls, remedy.text
        calls = random.Random(entry.id).sample(calls, min(ENOUGH, len(calls)))
        outcomes = ((call, wrong_calls.outcome(remedy, call, run.setting)) for call in calls)
        assert not (wrong := [f"{call.id}: {said}" for call, said in outcomes if said]), f"{remedy.text}: {wrong}"
