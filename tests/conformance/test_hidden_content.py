"""Results and gradients do not depend on the content of hidden positions (clause 5), also under dropout."""

import pytest
from hypothesis import given

from tests.harness.measurement import session
from tests.harness.measurement.checking import check, check_same_without_garbage
from tests.harness.strategies.contents import (
    all_dropped_cases,
    dropout_cases,
    garbage_cases,
    nonfinite_cases,
    shows_dropped_weights,
    takes_dropout,
)
from tests.harness.strategies.examples import share

RELEASE = session.current.release


@pytest.mark.subject
@pytest.mark.clause(5)
@given(case=garbage_cases(RELEASE))
def test_hidden_content_does_not_change_a_bit(case):
    check_same_without_garbage(case)


@pytest.mark.subject
@pytest.mark.skipif(RELEASE.device_type != "cpu", reason="hidden NaN is only measured on CPU")
@given(case=nonfinite_cases(RELEASE))
def test_hidden_content_may_be_nan(case):
    check(case)


@pytest.mark.subject
@pytest.mark.clause(5, 7)
@given(case=garbage_cases(RELEASE, dropout=0.5))
def test_hidden_content_does_not_change_a_bit_under_dropout(case):
    check_same_without_garbage(case)


@pytest.mark.subject
@pytest.mark.skipif(not shows_dropped_weights(RELEASE), reason="the subject does not return weights per head")
@given(case=dropout_cases(RELEASE))
def test_dropped_weights_are_zero_or_scaled_and_hidden_ones_stay_zero(case):
    check(case)


@pytest.mark.subject
@pytest.mark.skipif(
    RELEASE.device_type != "cpu", reason="only measured on CPU: the kernels of a GPU draw dropout internally"
)
@pytest.mark.skipif(not takes_dropout(RELEASE), reason="the subject takes no dropout")
@share(1 / 4)
@given(case=all_dropped_cases(RELEASE))
def test_nothing_is_left_where_every_weight_is_dropped(case):
    check(case)
