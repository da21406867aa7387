"""Dropped elements are observed; any other difference, or an impossible pattern of dropout, is a failure."""

from dataclasses import replace

import numpy as np
import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, drops
from tests.harness.cases.masks import Mask
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.modes.modes import BY_ID, MODES
from tests.harness.strategies.by_mode import adapted, cases_in
from tests.harness.strategies.modules import MODULES, any_cases, cases_of

from .sampling import sample

RELEASE = installed()
CAUSAL, PADDING = Mask("bool", "causal"), Mask("float", "right", "finite")
_SIZES = {"N": 2, "num_heads": 2, "head_dim": 4, "autograd": "grad", "training": True, "dropout": 0.5, "seed": 1}
ATTENTION = MultiHead(**_SIZES, L=9, S=9, attention="self", attn_mask=CAUSAL, key_padding_mask=PADDING)
_LAYER = {"S": 9, "T": 8, "dim_feedforward": 4, "activation": "gelu"}
ENCODER = Transformer(**_SIZES, **_LAYER, module="TransformerEncoderLayer", src_mask=CAUSAL)
DECODER = Transformer(**_SIZES, **_LAYER, module="TransformerDecoder", num_layers=2, memory_key_padding_mask=PADDING)
CASES = [
    ScaledDotProduct(batch=(2, 2), L=9, S=9, D=4, Dv=3, dropout=0.5, autograd="grad", attn_mask=CAUSAL),
    ATTENTION,
    replace(ATTENTION, need_weights=False, batched=False, N=1),
    replace(ATTENTION, average_attn_weights=False, add_bias_kv=True, dropout=0.1),
    ENCODER,
    replace(ENCODER, batch_first=False, norm_first=True),
    replace(ENCODER, module="Transformer", num_layers=2, norm=True, tgt_mask=CAUSAL),
    DECODER,
    replace(DECODER, dropout=1.0),
]
IDS = [f"{number}-{case.module}" for number, case in enumerate(CASES)]
# Number of dropouts: 1 in an attention. An encoder layer has 4: its weights, the output of its attention, the features
# and the output of the feed-forward. A decoder layer has 6: two more for its attention to the memory.
TIMES = [1, 1, 1, 1, 4, 4, 4 * 2 + 6 * 2, 6 * 2, 6 * 2]
SEEN = [case for case in CASES if case.dropout < 1]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_call_that_drops_conforms(case):
    assert judge(case, observe(case)).status == CONFORMS


def test_what_nan_in_a_mask_hides_from_dropout_is_not_asked():
    """torch drops NaN, which stays NaN, where the reference has numbers: a fully masked query whose scores are NaN."""
    sizes = {"N": 3, "S": 2, "T": 2, "num_heads": 2, "head_dim": 8}
    masks = {"tgt_mask": Mask("float", "last_column", "nan"), "memory_mask": Mask("bool", "all")}
    case = Transformer(seed=1, module="TransformerDecoderLayer", training=True, dropout=0.5, **sizes, **masks)
    assert judge(case, observe(case)).status == CONFORMS


@pytest.mark.parametrize("case, times", list(zip(CASES, TIMES, strict=True)), ids=IDS)
def test_every_dropout_is_seen(case, times):
    kept = observe(case).kept
    assert len(kept) == times
    if case.dropout < 1:
        assert all(0 < its.mean() < 1 for its in kept)


@pytest.mark.parametrize("case", SEEN, ids=IDS[: len(SEEN)])
def test_the_same_is_dropped_again(case):
    for one, other in zip(observe(case).kept, observe(case).kept, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", SEEN, ids=IDS[: len(SEEN)])
@pytest.mark.parametrize("kind", ["outputs", "gradients"])
def test_what_differs_by_more_than_what_is_dropped_fails(case, kind):
    observation = observe(case)
    arrays = getattr(observation, kind)
    first = next(iter(arrays))
    wrong = replace(observation, **{kind: {**arrays, first: arrays[first] * (1 + 1e-4)}})
    assert judge(case, wrong).status == FAILS


@pytest.mark.parametrize("case", SEEN, ids=IDS[: len(SEEN)])
@pytest.mark.parametrize(
    "change, told",
    [
        (lambda kept: kept[:-1], "dropout"),
        (lambda kept: (*kept, kept[-1]), "dropout"),
        (lambda kept: (kept[0][..., :-1], *kept[1:]), "dropout"),
        (lambda kept: (*kept[:-1], np.full_like(kept[-1], True)), "share kept by dropout"),
        (lambda kept: (*kept[:-1], ~kept[-1]), ""),
    ],
    ids=["one too few", "one too many", "of another size", "nothing dropped", "the opposite"],
)
def test_what_dropout_cannot_do_fails(case, change, told):
    observation = observe(case)
    verdict = judge(case, replace(observation, kept=change(observation.kept)))
    assert verdict.status == FAILS
    if told != "share kept by dropout" or case.dropout == 0.5:  # with 0.1, a few elements may all be kept by chance
        assert told in verdict.mismatches[0].what


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: (np.broadcast_to(kept[0][:1], kept[0].shape), *kept[1:]),
        lambda kept: (np.broadcast_to(kept[0][..., :1, :], kept[0].shape), *kept[1:]),
        lambda kept: (*kept[:-1], kept[-3]),
    ],
    ids=["each head alike", "each query alike", "as an earlier block"],
)
def test_elements_that_are_dropped_alike_fail(change):
    case = replace(ENCODER, S=32, src_mask=None, head_dim=16)
    observation = observe(case)
    assert judge(case, observation).status == CONFORMS
    mismatch = judge(case, replace(observation, kept=change(observation.kept))).mismatches[0]
    assert (mismatch.what, mismatch.got) == ("dropout", "of the same")


@pytest.mark.parametrize("module", MODULES)
def test_dropout_in_training_is_drawn_for_every_module(module):
    cases = sample(cases_of(RELEASE, module), 300)
    assert sum(drops(case) for case in cases) > 9


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.is_in()], ids=str)
def test_dropout_is_drawn_in_the_modes_that_take_it(mode):
    cases = sample(any_cases(RELEASE) if mode.id == "eager" else cases_in(RELEASE, mode), 200)
    assert any(map(drops, cases)) == mode.drops


def test_a_trace_of_both_stacks_is_asked_without_dropout():
    """TorchScript may run the target's first attention before the encoder, and then draws other random numbers."""
    dropping = Transformer(module="Transformer", head_dim=4, training=True, dropout=0.5, autograd="grad")
    assert adapted(dropping, BY_ID["traced"]).dropout == 0
    assert drops(adapted(replace(dropping, module="TransformerDecoder"), BY_ID["traced"]))
