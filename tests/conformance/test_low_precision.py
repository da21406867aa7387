"""Calls in bfloat16 and float16: results are right within the rounding of the dtype, and exact where a mask hides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.measurement import session
from tests.harness.measurement.checking import check
from tests.harness.strategies.by_mode import low_precision_cases
from tests.harness.strategies.examples import share

RELEASE = session.current.release


@pytest.mark.parametrize("dtype", RELEASE.low_dtypes)
@share(1 if RELEASE.device_type == "cpu" else 3)  # a GPU has kernels for these dtypes only
@given(data=st.data())
def test_is_as_specified(dtype, data):
    check(data.draw(low_precision_cases(RELEASE, dtype)))
