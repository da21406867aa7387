"""FlexAttention: what is drawn, which wrong results are noticed, and scripts of calls."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import find, given, settings

from tests.harness.cases.case import FlexAttention
from tests.harness.cases.laws import LAWS_OF_FLEX_ATTENTION
from tests.harness.cases.masks import Mask
from tests.harness.cases.simpler import simpler
from tests.harness.cases.spelling import shortest_repr
from tests.harness.command_line import BadInput
from tests.harness.contents.arrays import hidden
from tests.harness.deviations import flex, flex_block_masks, ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.flex import definitions, imported
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.expectation.specification import specification
from tests.harness.judgement.prediction import Prediction
from tests.harness.judgement.report import failure_of, report
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.modes.parsing import parse
from tests.harness.strategies.flex import flex_attention_cases
from tests.tools.case_script import EVERYTHING, script

from .running import mismatches, run_script
from .sampling import FEW, sample

RELEASE = installed()
ENTRIES = (*flex.ENTRIES, *flex_block_masks.ENTRIES)
pytestmark = pytest.mark.skipif(not RELEASE.has_flex_attention, reason="since 2.5")
CASES = flex_attention_cases(RELEASE)
MASKED = FlexAttention(
    L=3, S=4, D=4, Dv=4, kept_mask=Mask("bool", "row"), added_mask=Mask("float", "one", "bias"), lse="return_lse"
)


@FEW
@given(case=CASES)
def test_a_case_can_be_pasted_back(case):
    assert parse(shortest_repr(case)) == parse(repr(case)) == case
    assert RELEASE.offers(case)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FlexAttention(batch=(1, 2, 3))", "batch=(1, 2, 3): flex_attention takes two numbers"),
        ("FlexAttention(block_size=(0, 1))", "block_size=(0, 1): less than 1"),
        (
            "FlexAttention(batch=(2, 2), mask_batch=(1, 3))",
            "mask_batch=(1, 3): each number must be 1, or that of batch",
        ),
        ("FlexAttention(kept_mask=Mask(form='float'))", "kept_mask: must be a bool mask"),
        ("FlexAttention(blocks_by='hand')", "blocks_by='hand': not one of 'create_block_mask'"),
        ("FlexAttention(lse='yes')", "lse='yes': not one of '', 'return_lse'"),
    ],
)
def test_a_call_that_cannot_be_made_is_refused_in_one_line(text, said):
    with pytest.raises(BadInput, match=f"^{re.escape(said)}.*$"):
        parse(text)


@FEW
@given(case=CASES)
def test_only_its_own_entries_are_asked(case):
    applied = ledger.applying(Call(case, RELEASE), ledger.ENTRIES)
    assert {its.id for its in applied} <= {entry.id for entry in ENTRIES}


@FEW
@given(case=CASES)
def test_simpler_calls_can_be_made(case):
    for simple in simpler(case):
        assert parse(repr(simple)) == simple
        assert simple.lse == "" or "lse" in specification(simple)()
        assert hidden(simple)[0].shape == (*simple.batch, simple.L, simple.S)


def sees_nothing(case):
    """True if some query is fully masked, but not all are."""
    rows = hidden(case)[0].all(axis=-1)
    return rows.any() and not rows.all()


@pytest.mark.parametrize(
    "reached",
    [
        lambda case: case.blocks_by == "lists" and not case.has_mask_mod and case.lse,
        lambda case: case.blocks_by == "lists" and case.has_mask_mod and case.kv_heads,
        lambda case: case.blocks_by == "create_block_mask" and case.kept_mask and case.L % case.block_size[0] > 0,
        lambda case: case.blocks_by == "adjustment" or not RELEASE.has_lengths_of_block_masks,
        lambda case: case.blocks_by == "slice_of_queries" and case.L > case.block_size[0] > 1,
        lambda case: case.blocks_by == "slice_of_samples" and case.batch[0] > 1 and not case.compares_positions,
        lambda case: case.blocks_by == "slice_without_mask_mod" and case.added_mask is not None,
        lambda case: case.kept_mask and case.compares_positions and case.L != case.S,
        lambda case: case.added_mask and case.softcap and case.scale == 2.0,
        lambda case: case.added_mask and case.added_mask.is_float and case.autograd == "mask" and case.lse,
        lambda case: case.added_mask and case.added_mask.values == "min" and case.dtype == "float32",
        lambda case: case.mask_batch[0] > 1 and case.mask_batch[1] == 1 and case.batch[1] > 1 and case.kept_mask,
        lambda case: case.dtype == "bfloat16" and case.kept_mask and sees_nothing(case),
        lambda case: case.nonfinite == "nan",
        lambda case: case.autograd == "grad" and case.added_mask and case.added_mask.is_float,
        lambda case: case.L == 0,
        lambda case: case.S == 0 and case.kept_mask,
        lambda case: case.lse == "return_aux" or not RELEASE.has_aux_request,
    ],
)
def test_generated_calls_reach(reached):
    assert find(CASES, reached, settings=settings(max_examples=3000, database=None))


def test_calls_shrink_to_the_plainest():
    simplest = find(CASES, lambda case: case.kept_mask, settings=settings(max_examples=3000, database=None))
    assert simplest == FlexAttention(D=4, Dv=4, kept_mask=Mask())


def test_the_right_result_conforms():
    assert judge(MASKED, observe(MASKED)).status == CONFORMS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda its: {"outputs": its.outputs | {"output": its.outputs["output"] + 1e-9}},
        lambda its: {"outputs": its.outputs | {"lse": its.outputs["lse"] / np.log(2)}},
        lambda its: {
            "outputs": its.outputs | {"lse": np.where(np.isneginf(its.outputs["lse"]), 0, its.outputs["lse"])}
        },
        lambda its: {"outputs": its.outputs | {"lse": its.outputs["lse"][..., None]}},
        lambda its: {"outputs": {"output": its.outputs["output"]}},
        lambda its: {"dtypes": its.dtypes | {"lse": "float32"}},
        lambda its: {"warnings": ("deprecated",)},
        lambda its: {"error": ("RuntimeError", "no")},
        lambda its: {"mutated": ("kept_mask",)},
    ],
)
def test_a_wrong_result_fails(wrong):
    right = observe(MASKED)
    observation = replace(right, **wrong(right))
    verdict = judge(MASKED, observation)
    assert verdict.status == FAILS
    text = report(failure_of(MASKED, observation, verdict))
    assert "block_mask = create_block_mask(mask_mod, None, None, 3, 4, device=query.device)" in text
    assert "block_mask=block_mask" in text


@pytest.mark.parametrize("law", LAWS_OF_FLEX_ATTENTION, ids=lambda law: law.id)
def test_the_calls_of_a_law_hide_the_same_keys(law):
    case = replace(MASKED, added_mask=None, kept_mask=Mask("bool", "random"), batch=(2, 3), mask_batch=(1, 3), seed=4)
    one, other = law.twins(case)
    assert one != other
    np.testing.assert_array_equal(hidden(one)[0], hidden(other)[0])
    assert hidden(one)[0].any()


@pytest.mark.parametrize(
    "case",
    [
        *(entry.pinned for entry in ENTRIES if RELEASE.offers(entry.pinned)),
        MASKED,
        replace(MASKED, autograd="mask", dtype="float32"),
        replace(MASKED, mode="compiled_eager", lse=""),
    ],
    ids=repr,
)
def test_a_script_says_what_the_specification_says(case):
    about = EVERYTHING - {"warnings"}  # documented ones are given once for each process
    code, output, errors = run_script(script(case, about=about))
    assert code == bool(mismatches(case)), output + errors


def test_functions_are_joined_by_and_masks_and_or_masks():
    case = FlexAttention(kept_mask=Mask("bool", "causal"), L=2, S=2)
    for joined in ("and", "or"):
        text = "\n".join((imported(replace(case, joined=joined)), *definitions(replace(case, joined=joined))))
        assert f"import {joined}_masks, " in text
        assert f"mask_mod = {joined}_masks(of_first, of_second, of_third)" in text
    cases = sample(flex_attention_cases(RELEASE, inference=True), 200)
    assert 0.05 < sum(bool(case.joined) for case in cases) / len(cases) < 0.4


def test_garbage_that_a_deviation_makes_visible_widens_the_bound():
    """torch ignores blocks that hide garbage; the sums in its gradients then have no digits."""
    case = FlexAttention(
        dtype="float32", seed=339, garbage=True, batch=(3, 2), L=4, S=4, D=4, Dv=16, kept_mask=Mask(), blocks_by="lists"
    )
    applied = ledger.applying(Call(case, RELEASE), ledger.ENTRIES)
    assert Prediction(case, applied, None).shows_garbage
    assert not Prediction(case, (), None).shows_garbage
