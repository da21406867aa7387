"""FlexAttention worked out by hand: softmax(0, ln 3) is (1/4, 3/4), 4 and 8 give 7, and exp(0) + exp(ln 3) is 4."""

from math import exp, inf, log, tanh

import numpy as np
import pytest

from reference.flex import BlockMask, ScoreMod, create_block_mask, flex_attention

from .comparing import near

KEYS = (0, log(3))


def column(*numbers):
    """The sequence (1, 1, S, 1) of these numbers: one sample, one head."""
    return np.array(numbers, float).reshape(1, 1, -1, 1)


def look(*, keep=None, bias=None, cap=None, keys=KEYS, values=(4, 8), **options):
    """(output, log-sum-exp) of the query 1 for these keys and values, under a mask_mod or a bias of one row."""
    block_mask = None if keep is None else create_block_mask(np.array([[[keep]]]))
    score_mod = None if bias is cap is None else ScoreMod(None if bias is None else np.array([[[bias]]], float), cap)
    output, logarithm = flex_attention(column(1), column(*keys), column(*values), block_mask, score_mod, **options)
    assert logarithm.shape == (1, 1, 1)
    return output.item(), logarithm.item()


@pytest.mark.parametrize(
    ("given", "output", "total"),
    [
        ({}, 7, 4),
        ({"keep": [True, True]}, 7, 4),
        ({"keep": [True, False]}, 4, 1),
        ({"keep": [False, True]}, 8, 3),
        ({"bias": [0, -inf]}, 4, 1),
        ({"bias": [log(3), 0]}, 6, 6),
        ({"bias": [log(9), -inf], "keep": [True, True]}, 4, 9),
        ({"bias": [log(9), 0], "keep": [False, True]}, 8, 3),
        ({"scale": 0.0}, 6, 2),
        ({"scale": -1.0}, 5, 4 / 3),
        ({"scale": 2.0}, 7.6, 10),
        ({"bias": [0, log(3)]}, 7.6, 10),
    ],
)
def test_scores_are_scaled_then_changed_by_score_mod_then_hidden_by_block_mask(given, output, total):
    near(look(**given), (output, log(total)))


def test_a_cap_bends_the_scaled_score_and_not_the_bias():
    bent = 2 * tanh(2 * log(3) / 2)
    near(look(cap=2.0, scale=2.0, bias=[0, log(5)])[1], log(1 + 5 * exp(bent)))


@pytest.mark.parametrize(
    "given", [{"keep": [False, False]}, {"bias": [-inf, -inf]}, {"keep": [0, 1], "bias": [0, -inf]}]
)
def test_a_query_that_sees_no_key_has_output_0_and_a_log_sum_exp_of_minus_infinity(given):
    given = given | ({"keep": [bool(kept) for kept in given["keep"]]} if "keep" in given else {})
    assert look(**given) == (0, -inf)


def test_without_keys_the_output_is_0_and_the_log_sum_exp_minus_infinity():
    output, logarithm = flex_attention(np.ones((1, 2, 3, 4)), np.ones((1, 2, 0, 4)), np.ones((1, 2, 0, 5)))
    np.testing.assert_array_equal(output, np.zeros((1, 2, 3, 5)))
    np.testing.assert_array_equal(logarithm, np.full((1, 2, 3), -inf))


def test_by_default_scores_are_divided_by_the_root_of_the_features():
    output, logarithm = flex_attention(np.ones((1, 1, 1, 4)), np.full((1, 1, 2, 4), [[0], [0.5]]), column(4, 8))
    near(logarithm.item(), log(1 + exp(1)))
    near(output.item(), (4 + 8 * exp(1)) / (1 + exp(1)))


def test_with_gqa_neighbouring_query_heads_share_a_key_and_value_head():
    key, value = (np.array(numbers, float).reshape(1, 2, 2, 1) for numbers in ([0, log(3), log(3), 0], [4, 8, 40, 80]))
    output, logarithm = flex_attention(np.ones((1, 4, 1, 1)), key, value, enable_gqa=True)
    near(output.ravel(), [7, 7, 50, 50])
    near(logarithm.ravel(), [log(4)] * 4)


def ints(*numbers):
    """int32 (1, 1, ...)"""
    return np.array([[numbers]], "int32")


def rows(visible):
    """The mask of the only sample and head as text: o for a key that a query sees."""
    return ["".join(".o"[int(sees)] for sees in row) for row in visible[0, 0]]


def test_a_row_sees_its_first_listed_blocks_and_no_others():
    mask = BlockMask(ints(1, 2, 0), ints([1, 0, 2], [2, 0, 1], [0, 1, 2]), block_size=(1, 2))
    assert rows(mask.visible(3, 6)) == ["..oo..", "oo..oo", "......"]


def test_partial_blocks_apply_mask_mod_and_full_blocks_do_not():
    keep = np.array([[[[1, 0, 1, 0], [0, 1, 0, 1]]]], bool)
    mask = BlockMask(ints(1), ints([0, 1]), ints(1), ints([1, 0]), block_size=(2, 2), mask_mod=keep)
    assert rows(mask.visible(2, 4)) == ["o.oo", ".ooo"]


def test_blocks_of_queries_and_keys_have_sizes_of_their_own_and_the_last_ones_are_cut():
    mask = BlockMask(ints(1, 1), ints([0, 1], [1, 0]), block_size=(2, 3))
    assert rows(mask.visible(3, 5)) == ["ooo..", "ooo..", "...oo"]


def test_an_adjusted_mask_begins_like_the_larger_one():
    mask = BlockMask(ints(1, 2, 2), ints([2, 0, 1], [0, 2, 1], [1, 2, 0]), block_size=(1, 2))
    assert rows(mask.visible(3, 6)) == ["....oo", "oo..oo", "..oooo"]
    assert rows(mask.adjusted(2, 3).visible(2, 3)) == ["...", "oo."]
    assert rows(mask.adjusted(3, 5).visible(3, 5)) == ["....o", "oo..o", "..ooo"]


def test_a_created_mask_tells_full_from_partial_and_empty_blocks():
    keep = np.array([[[[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]]]], bool)
    mask = create_block_mask(keep, (2, 2))
    partial, full = mask.blocks
    assert rows(partial) == [".o.", "..o"]
    assert rows(full) == ["o..", "..."]
    assert mask.kv_num_blocks.tolist() == [[[1, 1]]]
    assert mask.full_kv_num_blocks.tolist() == [[[1, 0]]]
