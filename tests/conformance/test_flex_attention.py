"""torch.nn.attention.flex_attention, without torch.compile. It compiles itself, which takes most of the time.

tests/conformance/test_modes.py has more calls, in the mode flex_debugged, which leaves the compilation out.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.cases.case import FlexAttention
from tests.harness.cases.laws import LAWS_OF_FLEX_ATTENTION
from tests.harness.cases.masks import Mask
from tests.harness.measurement import session
from tests.harness.measurement.checking import check, check_law
from tests.harness.modes.flex import FLEX_DEBUGGED
from tests.harness.strategies.examples import share
from tests.harness.strategies.flex import flex_attention_cases

RELEASE = session.current.release
pytestmark = pytest.mark.skipif(
    not RELEASE.has_flex_attention or RELEASE.device_type != "cpu", reason="since 2.5; measured on CPU"
)
QUICKEST = FLEX_DEBUGGED.id if RELEASE.has_mode(FLEX_DEBUGGED.id) else "eager"
FEW = 1 / 25 if QUICKEST != "eager" else 1 / 10  # a draw takes a tenth of a second


@share(FEW)
@given(case=flex_attention_cases(RELEASE))
def test_output_and_log_sum_exp_are_as_specified(case):
    check(case)


@share(FEW / 2)
@given(case=flex_attention_cases(RELEASE, inference=True))
def test_inference_is_as_specified(case):
    check(case)


COMPILED = FlexAttention(mode="compiled_inductor", dtype="float32", batch=(2, 2), L=4, S=6, D=8, Dv=8, seed=5)
SLICED = replace(COMPILED, kept_mask=Mask("bool", "causal"), block_size=(2, 2))
COMPILED_CALLS = {
    "both_masks": replace(
        COMPILED, kept_mask=Mask("bool", "row"), added_mask=Mask("float", "random", "bias"), mask_batch=(2, 2), S=7
    ),
    "lists_and_mask_mod": replace(COMPILED, kept_mask=Mask("bool", "random"), blocks_by="lists", block_size=(2, 2)),
    "lists": replace(COMPILED, kept_mask=Mask(), blocks_by="lists", block_size=(1, 2), kv_heads=1, L=5),
    "causal_and_bent": replace(COMPILED, softcap=2.0, scale=0.5, kept_mask=Mask("bool", "causal"), Dv=4),
    "slice_of_queries": replace(SLICED, blocks_by="slice_of_queries"),
    "slice_without_mask_mod": replace(SLICED, blocks_by="slice_without_mask_mod", mask_batch=(2, 1)),
    "log_sum_exp": replace(COMPILED, lse="return_lse"),
    "float64": replace(COMPILED, dtype="float64"),
}
IS_LONG = settings.default.max_examples >= 600


@pytest.mark.skipif(not (IS_LONG and RELEASE.has_mode(COMPILED.mode)), reason="each call takes ten seconds: long runs")
@pytest.mark.parametrize("case", COMPILED_CALLS.values(), ids=COMPILED_CALLS)
def test_compiled_is_as_specified(case):
    check(case)


@pytest.mark.parametrize("law", LAWS_OF_FLEX_ATTENTION, ids=lambda law: law.id)
@share(1 / 25 if QUICKEST != "eager" else 1 / 100)
@given(data=st.data())
def test_same_result_for(law, data):
    case = data.draw(
        flex_attention_cases(RELEASE, inference=True).filter(lambda case: 0 not in (*case.batch, *case.lengths))
    )
    check_law(law, replace(case, mode=QUICKEST, autograd="no_grad"))
