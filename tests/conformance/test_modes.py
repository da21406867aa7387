"""However it is come by and called, it computes the same (clause 3): copied, loaded, on a chosen backend, and so on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import session
from tests.harness.checking import check
from tests.harness.modes import EAGER, MODES
from tests.harness.strategies import cases_in

RELEASE = session.current.release


@pytest.mark.clause(3)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode is not EAGER and mode.is_in()], ids=lambda m: m.id)
@given(data=st.data())
def test_is_as_specified(mode, data):
    check(data.draw(cases_in(RELEASE, mode)))
