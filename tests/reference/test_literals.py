"""Dot-product attention worked out by hand: softmax(0, ln 3) is (1/4, 3/4), and the values 4 and 8 give 7."""

from math import inf, log

import numpy as np
import pytest

from reference import masks
from reference.attention import scaled_dot_product_attention

from .comparing import near

MIN = np.finfo(np.float64).min
KEYS = (0, log(3))


def column(*numbers, dtype=float):
    """The sequence (S, 1) of these numbers."""
    return np.array(numbers, dtype)[:, None]


def look(attn_mask=None, dtype=float, keys=KEYS, values=(4, 8), **options):
    """The output for the query 1, the keys 0 and ln 3, and the values 4 and 8."""
    mask = None if attn_mask is None else np.array([attn_mask])
    mask = mask if mask is None or mask.dtype == bool else mask.astype(dtype)
    columns = column(1, dtype=dtype), column(*keys, dtype=dtype), column(*values, dtype=dtype)
    return scaled_dot_product_attention(*columns, mask, **options)


MASKS_OF_TWO_KEYS = [
    (None, 7),
    ([True, True], 7),
    ([True, False], 4),
    ([False, True], 8),
    ([False, False], 0),
    ([0.0, 0.0], 7),
    ([0.0, -inf], 4),
    ([-inf, 0.0], 8),
    ([-inf, -inf], 0),
    ([100.0, -inf], 4),
    ([log(3), 0.0], 6),
    ([log(9), 0.0], 5),
    ([0.0, log(3)], 7.6),
    ([0.0, -1000.0], 4),
    ([1000.0, 0.0], 4),
    ([-1000.0, -1000.0], 7),
]


@pytest.mark.parametrize("mask, context", MASKS_OF_TWO_KEYS)
def test_a_mask_is_added_to_the_score_and_true_keeps_in_scaled_dot_product_attention(mask, context):
    near(look(mask), [[context]])


@pytest.mark.parametrize("mask, context", MASKS_OF_TWO_KEYS)
def test_single_precision_stays_single(mask, context):
    result = look(mask, np.float32)
    assert result.dtype == np.float32
    near(result, [[context]], error=1e-4)  # 1000 + ln 3 is rounded by 6e-5


@pytest.mark.parametrize("lowest, context", [([MIN, 0.0], 8), ([0.0, MIN], 4), ([MIN, MIN], 6), ([-inf, MIN], 8)])
def test_the_lowest_finite_number_does_not_hide_and_swallows_the_score(lowest, context):
    near(look(lowest), [[context]])


def test_plus_infinity_does_not_hide_and_has_no_softmax():
    with np.errstate(invalid="ignore"):
        near(look([inf, 0.0]), [[np.nan]])
        near(look([inf, -inf]), [[np.nan]])


@pytest.mark.parametrize("mask", [[True, False], [0.0, -inf]])
@pytest.mark.parametrize("key", [1e300, -1e300, inf, np.nan])
@pytest.mark.parametrize("value", [1e308, -1e308])
def test_hidden_content_is_not_seen_however_large(mask, key, value):
    assert look(mask, keys=(0, key), values=(4, value)).item() == 4


@pytest.mark.parametrize("scale, context", [(None, 7), (0.5, 7), (1, 7.6), (0.0, 6), (-0.5, 5)])
def test_scale_is_by_default_one_over_the_root_of_the_head_dimension(scale, context):
    query, key, value = np.ones((1, 4)), np.array([[0, 0, 0, 0], [log(9), 0, 0, 0]]), column(4, 8)
    near(scaled_dot_product_attention(query, key, value, scale=scale), [[context]])


@pytest.mark.parametrize(
    "values, contexts",
    [
        ((1, 2, 6), (1, 1.5)),
        ((1, 2, 6), (1, 1.5, 3)),
        ((1, 2), (1, 1.5, 1.5, 1.5)),
        ((1,), (1, 1)),
    ],
)
def test_causal_lets_query_i_see_the_first_i_plus_1_keys_from_the_top_left(values, contexts):
    query, key = np.zeros((len(contexts), 1)), np.zeros((len(values), 1))
    near(scaled_dot_product_attention(query, key, column(*values), is_causal=True), column(*contexts))


def test_the_causal_mask_is_true_above_the_diagonal():
    assert masks.causal(2, 4).tolist() == [[False, True, True, True], [False, False, True, True]]
    assert masks.causal(3, 1).tolist() == [[False], [False], [False]]


@pytest.mark.parametrize("values, outputs", [([1], [1, 1, 1, 1]), ([1, 2], [1, 1, 2, 2]), ([1, 2, 3, 4], [1, 2, 3, 4])])
def test_with_gqa_neighbouring_query_heads_share_a_key_and_value_head(values, outputs):
    query, value = np.zeros((4, 1, 1)), np.array(values, float).reshape(-1, 1, 1)
    key = np.zeros_like(value)
    near(scaled_dot_product_attention(query, key, value, enable_gqa=True).ravel(), outputs)


def test_with_gqa_each_query_head_meets_the_keys_of_its_own_group():
    key = np.array([[[0], [log(3)]], [[log(3)], [0]]])
    value = np.array([[[4.0], [8]], [[40], [80]]])
    context = scaled_dot_product_attention(np.ones((4, 1, 1)), key, value, enable_gqa=True)
    near(context.ravel(), [7, 7, 50, 50])


def test_a_mask_may_differ_by_batch_and_head():
    query, key, value = np.ones((2, 2, 1, 1)), np.zeros((2, 2, 2, 1)), np.tile(column(4, 8), (2, 2, 1, 1))
    keep = np.array([[[[1, 1]], [[1, 0]]], [[[0, 1]], [[0, 0]]]], bool)
    near(scaled_dot_product_attention(query, key, value, keep).ravel(), [6, 4, 8, 0])


def test_without_any_key_the_context_is_zero():
    near(scaled_dot_product_attention(np.ones((2, 1)), np.ones((0, 1)), np.ones((0, 3))), np.zeros((2, 3)))
