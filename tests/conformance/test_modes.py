"""However a module is come by and called, it computes the same (clause 3): copied, loaded, parametrized, and so on."""

from dataclasses import replace

import pytest
from hypothesis import given

from tests.harness import session
from tests.harness.checking import check
from tests.harness.modes import EAGER, MODES
from tests.harness.strategies import module_cases

RELEASE = session.current.release


@pytest.mark.clause(3)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode is not EAGER and mode.is_in()], ids=lambda m: m.id)
@given(case=module_cases(RELEASE))
def test_is_as_specified(mode, case):
    check(replace(case, mode=mode.id))
