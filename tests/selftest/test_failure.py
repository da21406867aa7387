"""Whatever fails can be told: every case has a text, and the line that runs it again is that case."""

import re

import numpy as np
import pytest
from hypothesis import given, settings

from tests.harness.cases.laws import LAWS
from tests.harness.execution.runner import Observation
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.report import explain, grid
from tests.harness.judgement.verdict import FAILS, Verdict
from tests.harness.measurement import session
from tests.harness.modes.spelling import parse
from tests.harness.strategies.contents import cases_under
from tests.harness.strategies.modules import any_cases

RELEASE = session.start().release
VERDICT = Verdict(FAILS, (), (Mismatch("output", 0.0, 1.0, (0, 0), 1.0, 0.1),))


def case_in(text):
    """The case that the last line of a report runs again."""
    return parse(re.search(r'tests\.tools\.again "(.*)"', text)[1])


@settings(max_examples=500, deadline=None, database=None)
@given(case=any_cases(RELEASE))
def test_every_case_is_told_and_run_again(case):
    assert case_in(explain(case, Observation(), VERDICT)) == case


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.id)
def test_every_twin_is_told_and_run_again(law):
    @settings(max_examples=50, deadline=None, database=None)
    @given(case=cases_under(RELEASE, law))
    def told(case):
        for twin in law.twins(case):
            assert case_in(explain(twin, Observation(), VERDICT)) == twin

    told()


def test_a_mask_is_a_grid():
    assert grid(np.array([[True, False], [False, False]])) == "# .\n. ."
    assert grid(np.array(-np.inf)).strip() == "-"
    assert grid(np.zeros((0, 3, 3))) == ""
    assert "and 2 more" in grid(np.zeros((6, 1, 1)))
