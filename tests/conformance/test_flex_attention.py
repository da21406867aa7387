"""torch.nn.attention.flex_attention, without torch.compile. It compiles itself, which takes most of the time.

tests/conformance/test_modes.py has more calls, in the mode flex_debugged, which leaves the compilation out.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.cases.laws import LAWS_OF_FLEX_ATTENTION
from tests.harness.measurement import session
from tests.harness.measurement.checking import check, check_law
from tests.harness.modes.flex import FLEX_DEBUGGED
from tests.harness.strategies.examples import share
from tests.harness.strategies.flex import flex_attention_cases

RELEASE = session.current.release
pytestmark = pytest.mark.skipif(
    not RELEASE.has_flex_attention or RELEASE.device_type != "cpu", reason="since 2.5; measured on CPU"
)
QUICKEST = FLEX_DEBUGGED.id if RELEASE.has_mode(FLEX_DEBUGGED.id) else "eager"


@share(1 / 25)
@given(case=flex_attention_cases(RELEASE))
def test_output_and_log_sum_exp_are_as_specified(case):
    check(case)


@share(1 / 50)
@given(case=flex_attention_cases(RELEASE, inference=True))
def test_inference_is_as_specified(case):
    check(case)


@pytest.mark.parametrize("law", LAWS_OF_FLEX_ATTENTION, ids=lambda law: law.id)
@share(1 / 25 if QUICKEST != "eager" else 1 / 100)
@given(data=st.data())
def test_same_result_for(law, data):
    case = data.draw(
        flex_attention_cases(RELEASE, inference=True).filter(lambda case: 0 not in (*case.batch, *case.lengths))
    )
    check_law(law, replace(case, mode=QUICKEST, autograd="no_grad"))
