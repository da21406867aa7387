"""Clause 9: masks of a wrong shape, dtype or device, contradictory hints, and mismatched sequences are errors."""

from operator import attrgetter

import pytest

from tests.harness.judgement.report import Failure
from tests.harness.measurement import session
from tests.harness.wrong_masks.entry import WrongMaskDeviation
from tests.harness.wrong_masks.judge import check_rows
from tests.harness.wrong_masks.ledger import ENTRIES
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import not_applicable

RELEASE = session.current.release


BY_WAY = {}
for _call in ROWS:
    if not not_applicable(_call, RELEASE):
        BY_WAY.setdefault(_call.way, []).append(_call)


@pytest.mark.subject
@pytest.mark.clause(9)
@pytest.mark.parametrize("way", BY_WAY)
def test_wrong_masks_are_errors_that_name_them(way):
    check_rows(BY_WAY[way], session.current)


@pytest.mark.clause(9)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_known_deviation_is_where_the_ledger_says(entry, request):
    if not session.current.findings:
        pytest.skip("--no-ledger")
    if session.current.model and entry not in session.current.wrong_masks:
        pytest.skip("not in --model")
    finding = session.find_wrong_mask(entry)
    if finding.expected is None:
        return
    if finding.expected and finding.status != session.PRESENT and request.config.getini("strict"):
        fail(entry, "is absent: fixed in this release?")
    if not finding.expected and finding.status == session.PRESENT:
        fail(entry, f"is present: its range ({entry.affects}) is wrong")


def fail(entry: WrongMaskDeviation, news: str) -> None:
    """Report an entry with a wrong range. news: the end of a sentence that begins with its id."""
    session.current.fail(Failure(f"{entry.id} {news}", entry=entry.id), attrgetter("title"))
