"""The laws (clause 3): a call and its twin, another form of the call, give the same result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.cases.laws import LAWS
from tests.harness.measurement import session
from tests.harness.measurement.checking import check_law
from tests.harness.strategies.contents import cases_under
from tests.harness.strategies.examples import share

RELEASE = session.current.release


@pytest.mark.subject
@pytest.mark.parametrize("law", [law for law in LAWS if law.is_in(RELEASE)], ids=lambda law: law.id)
@share(1 / 2, least=50)  # a draw makes two calls, and also compares each with the reference
@given(data=st.data())
def test_same_result_for(law, data):
    check_law(law, data.draw(cases_under(RELEASE, law)))
