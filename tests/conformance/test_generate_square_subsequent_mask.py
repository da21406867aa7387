"""nn.Transformer.generate_square_subsequent_mask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.cases.case import SquareSubsequentMask
from tests.harness.measurement import session
from tests.harness.measurement.checking import check
from tests.harness.strategies.square_mask import SIZES_OF_SQUARES, square_mask_cases

RELEASE = session.current.release


@pytest.mark.clause(6, 10)
@given(size=st.sampled_from(SIZES_OF_SQUARES))
def test_hides_the_future_and_nothing_else(size):
    check(SquareSubsequentMask(dtype="float32", sz=size))


@pytest.mark.clause(6, 10)
@given(case=square_mask_cases(RELEASE))
def test_is_of_the_dtype_and_device_given_or_the_defaults(case):
    check(case)
