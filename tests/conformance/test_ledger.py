"""Each known deviation of this release, by its pinned least case."""

import pytest

from tests.harness.deviations import ledger
from tests.harness.judgement.report import Nonconformance, explain
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_pinned_case_does_what_the_ledger_says(entry, request):
    finding = session.current.findings.get(entry.id)
    if finding and entry.is_asked_late and (entry in session.current.entries or not entry.ends):
        finding = session.find_late(entry)
    if finding is None or finding.status == session.NOT_APPLICABLE:
        pytest.skip("this release cannot be asked" if finding else "--no-ledger, or not in --model")
    if finding.status == session.ABSENT:
        strict = request.config.getini("strict")
        assert not (finding.expected and strict), f"{entry.id} is absent: fixed in this release?"
        return
    case = session.current.release.held(entry.pinned)
    observation, verdict = judged(case, apart=entry.ends)
    if verdict.status == FAILS:
        news = f"is not expected here ({entry.affects})" if finding.expected is False else "has changed"
        text = explain(case, observation, verdict, session.current.setting)
        raise Nonconformance(f"{entry.id} {news}.\n{text}")
