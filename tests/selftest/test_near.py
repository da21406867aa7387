"""Calls near a pinned case differ from it, and fall on both sides of the edge of its entry."""

from dataclasses import fields

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from tests.harness.cases.case import FlexAttention, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.release import installed
from tests.harness.explanation.neighbours import is_costly
from tests.harness.strategies.near import cases_near

RELEASE = installed()
DRAWN = settings(
    max_examples=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
ENTRIES = [
    entry
    for entry in ledger.ENTRIES
    if entry.concerns(RELEASE) and RELEASE.offers(entry.pinned) and not (entry.ends or is_costly(entry.pinned))
]


def drawn(pinned):
    """Calls near the pinned case."""
    cases = []

    @DRAWN
    @given(cases_near(RELEASE, pinned))
    def collect(case):
        cases.append(case)

    collect()
    return cases


def differing(case, pinned):
    """The names of the fields in which the cases differ."""
    return {field.name for field in fields(pinned) if getattr(case, field.name) != getattr(pinned, field.name)}


def test_most_entries_have_calls_on_both_sides_of_their_edge():
    sides = {}
    for entry in ENTRIES:
        cases = drawn(entry.pinned)
        assert {case.mode for case in cases} == {entry.pinned.mode}
        assert entry.pinned not in cases
        sides[entry.id] = {bool(entry.applies(Call(case, RELEASE).met)) for case in cases}
    # of the others, the served path is known only to a run
    inside = [id for id, seen in sides.items() if True in seen]
    both = [id for id, seen in sides.items() if len(seen) == 2]
    assert len(inside) > 0.9 * len(ENTRIES), sides.keys() - set(inside)
    assert len(both) > 0.6 * len(ENTRIES), sides.keys() - set(both)


def test_shrinks_to_one_change():
    pinned = Transformer(
        module="TransformerEncoder", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask(), autograd="no_grad"
    )
    least = find(cases_near(RELEASE, pinned), lambda case: case.training)
    assert differing(least, pinned) <= {"training", "seed"}


@pytest.mark.skipif(not RELEASE.has_flex_attention, reason="since 2.5")
def test_functions_read_no_mask_without_elements():
    pinned = FlexAttention(L=0, D=2, Dv=2, kept_mask=Mask("bool", "causal"))
    for case in drawn(pinned):
        assert case.compares_positions or case.kept_mask is None or 0 not in (case.L, case.S)
