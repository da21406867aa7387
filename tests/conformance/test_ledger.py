"""Runs the pinned case of each entry of the ledger, and calls near it, and compares them with the model."""

from operator import attrgetter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.deviations import ledger
from tests.harness.expectation import clauses
from tests.harness.explanation.neighbours import is_costly
from tests.harness.judgement.report import Failure, failure_of
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement import session
from tests.harness.measurement.checking import check, judged
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.reading import COMPILED_READING
from tests.harness.strategies.examples import share
from tests.harness.strategies.near import cases_near, is_offered

RELEASE = session.current.release
IS_QUICK = settings.default.max_examples < 200
IS_LONG = settings.default.max_examples >= 600


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


def _is_near(entry):
    """True if calls near the pinned case are asked: of torch on CPU. Those that make an artifact take long."""
    if RELEASE.device_type != "cpu" or RELEASE.adopted or entry.ends:
        return False
    if not is_offered(entry.pinned, RELEASE) or BY_ID[entry.pinned.mode].packages:
        return False
    if entry.pinned.mode == COMPILED_READING:  # its own strategy says which calls can be built
        return False
    return IS_LONG if BY_ID[entry.pinned.mode].builds else not (IS_QUICK and is_costly(entry.pinned))


def _share(entry):
    """The share of the examples. Calls that make an artifact are slow; in two processes, or compiled, less so."""
    if is_costly(entry.pinned):
        return 1 / 200
    return 1 / 100 if BY_ID[entry.pinned.mode].is_shared or entry.pinned.is_flex else 1 / 50


@pytest.mark.parametrize("entry", list(map(_as_parameter, filter(_is_near, ledger.ENTRIES))))
def test_calls_near_a_pinned_case(entry, seeded):
    @seeded("calls near it")
    # Most draws may be calls that the release cannot run. If none can, Hypothesis still raises an error.
    @settings(
        share(_share(entry)),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(data=st.data())
    def ask(data):
        check(data.draw(cases_near(RELEASE, entry.pinned)))

    ask()
