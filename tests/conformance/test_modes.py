"""A module computes the same result in every mode (clause 3): copied, loaded, compiled, on a chosen backend, ..."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.measurement import session
from tests.harness.measurement.checking import check, check_in_turn
from tests.harness.modes.modes import EAGER, MODES
from tests.harness.modes.written import FORMS
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.coverage import aimed, aims, combinations_of
from tests.harness.strategies.examples import share
from tests.harness.strategies.reuse import call_sequences

RELEASE = session.current.release
HERE = [mode for mode in MODES if mode is not EAGER and mode.is_in(RELEASE.device_type)]
WRITTEN = [mode for mode in HERE if mode.id in FORMS]
COMPILED = [mode for mode in HERE if mode.compiles and not mode.builds and mode not in WRITTEN]
SHARDED = [mode for mode in HERE if mode.is_sharded]
BUILT = [mode for mode in HERE if mode.builds]
IS_QUICK = settings.default.max_examples < 200  # few compiled calls, and no built ones
IS_LONG = settings.default.max_examples >= 600


def _is_aimed(mode):
    """True if every kind of mask is asked on every path. Compilation for all sizes and variants of export take long."""
    if mode.serves == "sizes" or mode.kin == "exported":
        return IS_LONG
    return not (IS_QUICK and (mode.compiles or mode.is_sharded))


@pytest.mark.parametrize(
    ("mode", "path"),
    [(mode, path) for mode in filter(_is_aimed, HERE) for path in aims(RELEASE, mode)],
    ids=str,
)
def test_every_kind_of_mask_on_every_path(mode, path, seeded):
    seen = set()
    for kind, places in aims(RELEASE, mode)[path].items():
        if (path, kind) in seen:  # an earlier kind has covered it
            continue

        @seeded(kind)
        # Most draws may take other paths. If none takes this path, Hypothesis still raises an error.
        @settings(share(1 / 200), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
        @given(call_sequences(aimed(RELEASE, mode, path, kind, places), mode))
        def ask(cases):
            check_in_turn(cases)
            seen.update(combinations_of(cases[0], RELEASE))

        ask()


@pytest.mark.parametrize(
    "mode",
    [mode for mode in HERE if not (mode.compiles or mode.is_rare or mode.is_sharded)],
    ids=lambda mode: mode.id,
)
@share(1 / 5, least=25)
@given(data=st.data())
def test_is_as_specified(mode, data):
    for _ in range(mode.times):
        check(data.draw(cases_in(RELEASE, mode)))


@pytest.mark.parametrize("mode", [mode for mode in HERE if mode.is_rare], ids=lambda mode: mode.id)
@share(1 / 12, least=8)
@given(data=st.data())
def test_is_as_specified_in_few_calls(mode, data):
    check(data.draw(cases_in(RELEASE, mode)))


@pytest.mark.parametrize("mode", SHARDED, ids=lambda mode: mode.id)
@share(1 / 50)  # a draw takes a tenth of a second, the first one more
@given(data=st.data())
def test_is_as_specified_when_sharded(mode, data):
    check(data.draw(cases_in(RELEASE, mode)))


@pytest.mark.parametrize("mode", COMPILED, ids=lambda mode: mode.id)
@share(1 / 40, least=5)  # a draw takes up to a second
@given(data=st.data())
def test_is_as_specified_when_compiled(mode, data):
    for _ in range(mode.times):
        check_in_turn(data.draw(call_sequences(cases_in(RELEASE, mode), mode)))


@pytest.mark.parametrize("mode", WRITTEN, ids=lambda mode: mode.id)
@share(1 / 70)
@given(data=st.data())
def test_is_as_specified_when_written_by_hand(mode, data):
    check_in_turn(data.draw(call_sequences(cases_in(RELEASE, mode), mode)))


@pytest.mark.parametrize("mode", [] if IS_QUICK else BUILT, ids=lambda mode: mode.id)
@share(1 / 200)  # a draw takes four seconds, the first one eight
@given(data=st.data())
def test_is_as_specified_when_built(mode, data):
    check_in_turn(data.draw(call_sequences(cases_in(RELEASE, mode), mode)))
