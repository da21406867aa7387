"""F.scaled_dot_product_attention."""

import pytest
from hypothesis import given

from tests.harness.measurement import session
from tests.harness.measurement.checking import check_contents
from tests.harness.strategies.contents import nan_query_cases
from tests.harness.strategies.examples import share
from tests.harness.strategies.sdpa import scaled_dot_product_cases

RELEASE = session.current.release

pytestmark = [
    pytest.mark.skipif(not RELEASE.has_scaled_dot_product_attention, reason="this release lacks the function"),
    pytest.mark.subject("scaled_dot_product_attention"),
]


@share(3)  # a call costs little
@given(case=scaled_dot_product_cases(RELEASE, inference=True))
def test_inference_is_as_specified(case):
    check_contents(case)


@share(3)
@given(case=scaled_dot_product_cases(RELEASE))
def test_output_and_gradients_are_as_specified(case):
    check_contents(case)


@given(case=nan_query_cases(RELEASE, "scaled_dot_product_attention"))
def test_a_query_that_is_nan_spoils_its_own_row(case):
    check_contents(case)
