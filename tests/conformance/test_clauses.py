"""The simplest calls that exercise each clause of reference/README.md. The name of a call states the rule it tests."""

from dataclasses import replace

import pytest

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, SquareSubsequentMask, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.expectation import clauses
from tests.harness.measurement import session
from tests.harness.measurement.checking import check, check_twins
from tests.harness.wrong_masks.judge import check_row
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import WrongCall, not_applicable

CAUSAL, CAUSAL_FLOAT, PADDING = Mask("bool", "causal"), Mask("float", "causal"), Mask("bool", "right")
BIAS = Mask("float", "all", "finite")
ATTENTION = MultiHead(N=2, L=2, S=3, num_heads=2, head_dim=2)
SELF_ATTENTION = MultiHead(N=2, L=3, S=3, num_heads=2, head_dim=2, attention="self")
SDPA = ScaledDotProduct(L=2, S=3, D=4, Dv=2)
LAYER = Transformer(module="TransformerEncoderLayer", N=2, S=3, num_heads=2, head_dim=2)
ENCODER = replace(LAYER, module="TransformerEncoder")
DECODER_LAYER = replace(LAYER, module="TransformerDecoderLayer", T=2)
ROW = {row.id: row for row in ROWS}

# {number of a clause: {name: a call, or a pair of calls that must give the same result}}
CALLS = {
    1: {
        "softmax_of_scaled_scores": ATTENTION,
        "scale_as_given": replace(SDPA, scale=2.0),
        "two_masks_are_added_before_the_score": replace(
            ATTENTION, attn_mask=Mask("float", "all", "min"), key_padding_mask=Mask("float", "one", "min")
        ),
        "score_is_lost_beside_a_large_mask": replace(SDPA, dtype="float32", attn_mask=Mask("float", "all", "-1e9")),
    },
    2: {
        "true_hides_in_modules": replace(ATTENTION, attn_mask=Mask("bool", "one")),
        "true_keeps_in_sdpa": replace(SDPA, attn_mask=Mask("bool", "one")),
        "float_attention_mask_is_added_to_the_score": replace(ATTENTION, attn_mask=BIAS),
        "float_padding_mask_is_added_to_the_score": replace(LAYER, src_key_padding_mask=BIAS),
    },
    3: {
        "bool_mask_and_its_float_twin": (
            replace(ATTENTION, attn_mask=Mask("bool", "one")),
            replace(ATTENTION, attn_mask=Mask("float", "one")),
        ),
        "batch_and_its_first_sample": (
            replace(ENCODER, src_key_padding_mask=PADDING),
            replace(ENCODER, src_key_padding_mask=PADDING, only=0),
        ),
        "train_mode_and_eval": (
            replace(LAYER, src_mask=CAUSAL, training=True),
            replace(LAYER, src_mask=CAUSAL),
        ),
        "weights_wanted_and_not_wanted": (
            replace(SELF_ATTENTION, attn_mask=CAUSAL),
            replace(SELF_ATTENTION, attn_mask=CAUSAL, need_weights=False),
        ),
    },
    4: {
        "fully_masked_query": replace(ATTENTION, attn_mask=Mask("bool", "row")),
        "fully_masked_query_of_sdpa": replace(SDPA, attn_mask=Mask("bool", "row")),
        "fully_padded_sample": replace(LAYER, src_key_padding_mask=Mask("bool", "sample")),
        "no_keys": replace(SDPA, S=0),
    },
    5: {
        "large_numbers_at_hidden_positions": replace(
            ATTENTION, key_padding_mask=Mask("bool", "trailing"), garbage=True
        ),
        "nan_at_hidden_positions": replace(ATTENTION, attn_mask=Mask("bool", "last_column"), nonfinite="nan"),
        "gradient_of_an_ignored_key_is_zero": replace(
            ATTENTION, attn_mask=Mask("bool", "last_column"), autograd="inputs"
        ),
        "gradient_of_a_float_mask": replace(SDPA, attn_mask=BIAS, autograd="mask"),
    },
    6: {
        "is_causal_of_sdpa_is_aligned_at_the_first_key": replace(SDPA, is_causal=True),
        "true_hint_changes_nothing": (
            replace(SELF_ATTENTION, attn_mask=CAUSAL, is_causal=True),
            replace(SELF_ATTENTION, attn_mask=CAUSAL),
        ),
        "causal_mask_of_a_stack": replace(ENCODER, src_mask=CAUSAL_FLOAT),
        "square_subsequent_mask": SquareSubsequentMask("float32", sz=3),
    },
    7: {
        "no_mask_hides_bias_k": replace(ATTENTION, attn_mask=Mask("bool", "all"), add_bias_kv=True),
        "no_mask_hides_the_zero": replace(ATTENTION, key_padding_mask=Mask("bool", "all"), add_zero_attn=True),
        "weights_of_each_head": replace(ATTENTION, attn_mask=Mask("bool", "one"), average_attn_weights=False),
        "kept_weights_are_scaled": replace(
            ATTENTION, S=9, key_padding_mask=PADDING, average_attn_weights=False, training=True, dropout=0.5
        ),
    },
    8: {
        "padded_position_is_a_query": replace(SELF_ATTENTION, key_padding_mask=PADDING),
        "output_has_the_shape_of_the_input": replace(ENCODER, src_key_padding_mask=Mask("bool", "trailing")),
        "padding_of_the_target": replace(DECODER_LAYER, tgt_key_padding_mask=PADDING),
        "padding_of_the_memory": replace(DECODER_LAYER, memory_key_padding_mask=PADDING),
    },
    9: {
        "mask_with_too_few_keys": ROW["MultiheadAttention-cross-attn_mask-too_few_keys-training"],
        "padding_of_too_many_samples": ROW["MultiheadAttention-cross-key_padding_mask-too_many_samples-training"],
        "integer_mask": ROW["TransformerEncoderLayer-src_mask-int64-inference"],
        "mask_beside_is_causal": ROW["scaled_dot_product_attention-4d-attn_mask-mask_with_hint"],
    },
    10: {
        "masks_are_unchanged": replace(LAYER, src_mask=CAUSAL_FLOAT, src_key_padding_mask=Mask("float", "right")),
        "inputs_are_unchanged": replace(ENCODER, src_key_padding_mask=PADDING),
        "no_warning": replace(DECODER_LAYER, tgt_mask=CAUSAL, memory_key_padding_mask=PADDING),
    },
}


def as_tuple(value: Case | WrongCall | tuple[Case, Case]) -> tuple[Case | WrongCall, ...]:
    """The calls of a value in CALLS."""
    return value if isinstance(value, tuple) else (value,)


def _parameters():
    for number, named in CALLS.items():
        for name, value in named.items():
            calls = as_tuple(value)
            exercised = frozenset().union(*map(clauses.of, calls))
            marks = [pytest.mark.clause(*sorted(exercised))]
            (*modules,) = {call.module for call in calls}
            marks += [pytest.mark.subject(*modules)] * (len(modules) == 1)
            yield pytest.param(calls, id=f"clause_{number}-{name}", marks=marks)


@pytest.mark.parametrize("calls", list(_parameters()))
def test_holds(calls):
    release = session.current.release
    if isinstance(calls[0], Case):
        calls = tuple(release.held(release.adapt(case)) for case in calls)
        if not all(map(release.offers, calls)):
            pytest.skip("not applicable to this release")
        (check if len(calls) == 1 else check_twins)(*calls)
    elif reason := not_applicable(calls[0], release):
        pytest.skip(reason)
    else:
        check_row(calls[0], session.current)
