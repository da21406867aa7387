"""Gradients through torch.func.vmap: which tensors torch sees to require one, and that NaN stays with its contents."""

from dataclasses import replace

import pytest

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.execution.release import installed
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement.checking import judged
from tests.harness.modes.modes import BY_ID
from tests.harness.releases import contains
from tests.harness.strategies.by_mode import suits

MASK, NATIVE = "vmap-mask-gradient", "vmap-native-gradient"
LEARNED = ScaledDotProduct(mode="vmap", autograd="mask", L=2, S=2, attn_mask=Mask("float", "random", "bias"))
STACK = Transformer(
    module="TransformerDecoder", mode="vmap_of_masks", autograd="inputs", num_heads=2, memory_mask=Mask("float", "none")
)
LAYER = Transformer(
    mode="vmap", autograd="one_parameter", S=2, num_heads=2, head_dim=2, norm_first=True, activation="gelu"
)


@pytest.mark.parametrize(
    ("case", "id", "affects"),
    [
        (LEARNED, MASK, ">=2.3"),
        (replace(LEARNED, autograd="grad"), MASK, ">=2.3"),
        (replace(LEARNED, mode="vmap_of_masks"), MASK, ">=2.3"),
        (replace(LEARNED, batch=(1,)), MASK, ">=2.14"),
        (replace(LEARNED, batch=()), MASK, "<1"),
        (replace(LEARNED, mode="vmap_of_sequences"), MASK, "<1"),
        (replace(LEARNED, mode="vmap_math"), MASK, "<1"),
        (replace(STACK, num_layers=2), NATIVE, ">=2.3"),
        (replace(STACK, num_layers=3, autograd="mask", mode="vmap_of_sequences"), NATIVE, ">=2.0"),
        (STACK, NATIVE, "<1"),
    ],
    ids=str,
)
def test_what_vmap_hides_is_predicted(case: Case, id: str, affects: str) -> None:
    if not BY_ID[case.mode].is_in() or not installed().offers(case):
        pytest.skip("this release cannot make the call")
    verdict = judged(case)[1]
    assert verdict.status != FAILS
    assert (id in verdict.deviations) == contains(affects, installed().version)


def test_a_norm_before_the_attention_is_learned_if_the_fast_path_sees_it() -> None:
    """The layer sees its own parameters, and its attention those of its projections, but not that of the norm."""
    if not BY_ID["vmap"].is_in():
        pytest.skip("this release has no vmap")
    cases = [replace(LAYER, seed=seed) for seed in range(40)]
    verdicts = [judged(case)[1] for case in cases]
    assert all(verdict.status != FAILS for verdict in verdicts)
    assert 0 < sum(NATIVE in verdict.deviations for verdict in verdicts) < len(cases)


ONE_EMPTY_ROW = MultiHead(mode="vmap", L=3, head_dim=2, attention="cross", attn_mask=Mask("bool", "one"))


@pytest.mark.parametrize("mode", ["vmap", "vmap_of_sequences", "vmap_of_masks"])
@pytest.mark.parametrize(
    "case",
    [replace(ONE_EMPTY_ROW, autograd=autograd) for autograd in ("grad", "inputs")]
    + [replace(ONE_EMPTY_ROW, autograd="one_input", functional=True)]
    + [ScaledDotProduct(autograd="grad", L=3, S=3, is_causal=True, scale=0.0)],
    ids=str,
)
def test_nan_of_the_other_contents_reaches_no_gradient(mode: str, case: Case) -> None:
    if not BY_ID[mode].is_in() or not installed().offers(case) or not suits(case, BY_ID[mode]):
        pytest.skip("this release cannot make the call, or the mode has no mask to map")
    assert judged(replace(case, mode=mode))[1].status != FAILS
