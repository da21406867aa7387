"""NaN in a float mask, as `(1 - keep) * -inf` makes where a key is kept, spoils the rows that hold it (clause 2)."""

import pytest
from hypothesis import given

from tests.harness.measurement import session
from tests.harness.measurement.checking import check
from tests.harness.strategies.contents import nan_mask_cases
from tests.harness.strategies.examples import share

RELEASE = session.current.release


@pytest.mark.skipif(RELEASE.device_type != "cpu", reason="NaN in masks is only measured on CPU")
@share(1 / 2)
@given(case=nan_mask_cases(RELEASE))
def test_spoils_the_rows_that_hold_it(case):
    check(case)
