"""Runs the pinned case of each entry of the ledger, and compares it with the model of this release."""

from operator import attrgetter

import pytest

from tests.harness.deviations import ledger
from tests.harness.expectation import clauses
from tests.harness.judgement.report import Failure, failure_of
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged


def _as_parameter(entry):
    exercised = clauses.of(entry.pinned) | {entry.clause}
    return pytest.param(entry, id=entry.id, marks=pytest.mark.clause(*sorted(exercised)))


@pytest.mark.parametrize("entry", list(map(_as_parameter, ledger.ENTRIES)))
def test_pinned_case_does_what_the_ledger_says(entry, request):
    finding = session.current.findings.get(entry.id)
    if finding and entry.is_asked_late and (entry in session.current.entries or not entry.ends):
        finding = session.find_late(entry)
    if finding is None or finding.status == session.NOT_APPLICABLE:
        pytest.skip("not applicable to this release" if finding else "--no-ledger, or not in --model")
    if finding.status == session.ABSENT:
        strict = request.config.getini("strict")
        if finding.expected and strict:
            absent = Failure(f"{entry.id} is absent: fixed in this release?", entry=entry.id)
            session.current.fail(absent, attrgetter("title"))
        return
    case = session.current.release.held(entry.pinned)
    observation, verdict = judged(case, apart=entry.ends)
    if verdict.status == FAILS:
        news = f"is not expected here ({entry.affects})" if finding.expected is False else "has changed"
        about = {"entry": entry.id, "note": f"The ledger's entry {entry.id} {news}."}
        session.current.fail(failure_of(case, observation, verdict, session.current.setting, **about))
