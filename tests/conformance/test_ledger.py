"""Each known deviation of this release, by its pinned least case."""

import pytest

from tests.harness import ledger, session
from tests.harness.checking import judged
from tests.harness.failure import Nonconformance, explain


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_pinned_case_does_what_the_ledger_says(entry, request):
    status = session.current.statuses[entry.id]
    if status == session.NOT_APPLICABLE:
        pytest.skip("this release is not concerned")
    if status == session.ABSENT:
        assert not request.config.getini("strict"), f"{entry.id} is absent: fixed in this release?"
        return
    observation, verdict = judged(entry.pinned)
    if status == session.CHANGED:
        raise Nonconformance(f"{entry.id} has changed.\n" + explain(entry.pinned, observation, verdict))
