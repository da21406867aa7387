"""nn.MultiheadAttention and F.multi_head_attention_forward."""

import pytest
from hypothesis import given

from tests.harness.measurement import session
from tests.harness.measurement.checking import check_contents
from tests.harness.strategies.contents import nan_query_cases
from tests.harness.strategies.examples import share
from tests.harness.strategies.multi_head import multi_head_cases

RELEASE = session.current.release


@pytest.mark.subject("MultiheadAttention")
@share(3)  # a call costs little
@given(case=multi_head_cases(RELEASE, inference=True))
def test_inference_is_as_specified(case):
    check_contents(case)


@pytest.mark.subject("MultiheadAttention")
@share(3)
@given(case=multi_head_cases(RELEASE, inference=False))
def test_training_and_other_calls_are_as_specified(case):
    check_contents(case)


@share(3)
@given(case=multi_head_cases(RELEASE, inference=False, functional=True))
def test_functional_form_is_as_specified(case):
    check_contents(case)


@pytest.mark.subject("MultiheadAttention")
@given(case=nan_query_cases(RELEASE, "MultiheadAttention"))
def test_a_query_that_is_nan_spoils_its_own_row(case):
    check_contents(case)
