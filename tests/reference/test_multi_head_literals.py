"""Multi-head attention worked out by hand: softmax(0, ln 3) is (1/4, 3/4), and the values 4 and 8 give 7."""

import dataclasses
from math import inf, log

import numpy as np
import pytest

from reference import masks
from reference.attention import MultiHeadAttention

from .comparing import near

MIN = np.finfo(np.float64).min
MIN32 = np.finfo(np.float32).min
ONE_HEAD = MultiHeadAttention(1, *[np.eye(1)] * 4)
TWO_HEADS = MultiHeadAttention(2, *[np.eye(2)] * 4)


def column(*numbers):
    """The sequence (S, 1) of these numbers."""
    return np.array(numbers, float)[:, None]


def row(*numbers):
    """The sequence (1, E) of one element with these numbers."""
    return np.array([numbers], float)


def multi_head(attn_mask=None, key_padding_mask=None, module=ONE_HEAD, **options):
    """Output and weights for the query 1, the keys 0 and ln 3, and the values 4 and 8, without the batch dimension."""
    given = [None if mask is None else np.array([mask]) for mask in (attn_mask, key_padding_mask)]
    output, weights = module(column(1)[None], column(0, log(3))[None], column(4, 8)[None], *given, **options)
    return output.item(), weights.ravel().tolist()


MODULE_MASKS_OF_TWO_KEYS = [
    (None, 7, [1 / 4, 3 / 4]),
    ([False, False], 7, [1 / 4, 3 / 4]),
    ([True, False], 8, [0, 1]),
    ([False, True], 4, [1, 0]),
    ([True, True], 0, [0, 0]),
    ([-inf, 0.0], 8, [0, 1]),
    ([-inf, -inf], 0, [0, 0]),
    ([log(3), 0.0], 6, [1 / 2, 1 / 2]),
    ([0.0, log(3)], 7.6, [1 / 10, 9 / 10]),
    ([MIN, MIN], 6, [1 / 2, 1 / 2]),
]


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
@pytest.mark.parametrize("mask, output, weights", MODULE_MASKS_OF_TWO_KEYS)
def test_both_masks_of_the_module_are_added_to_the_score_and_true_hides(name, mask, output, weights):
    near(multi_head(**{name: mask})[0], output)
    near(multi_head(**{name: mask})[1], weights)


@pytest.mark.parametrize(
    "attn_mask, key_padding_mask, weights",
    [
        ([True, False], [False, False], [0, 1]),
        ([True, False], [False, True], [0, 0]),
        ([log(3), 0.0], [False, True], [1, 0]),
        ([log(3), 0.0], [log(3), 0.0], [3 / 4, 1 / 4]),
        ([False, True], [log(3), 0.0], [1, 0]),
        ([1.0, 0.0], [-inf, 0.0], [0, 1]),
        ([MIN, 0.0], [0.0, MIN], [1 / 2, 1 / 2]),
        ([MIN, 0.0], [MIN, 0.0], [0, 1]),
        ([MIN, MIN], [MIN, MIN], [0, 0]),
        ([MIN, MIN], [MIN, 0.0], [0, 1]),
    ],
)
def test_two_masks_of_the_module_add_up(attn_mask, key_padding_mask, weights):
    near(multi_head(attn_mask, key_padding_mask)[1], weights)


def test_two_masks_are_summed_in_their_own_precision():
    single, double = np.full((1, 2), MIN32), np.full((1, 2), float(MIN32))
    assert masks.merge(single, single).tolist() == [[-inf, -inf]]
    arrays = column(1)[None], column(0, log(3))[None], column(4, 8)[None]
    near(ONE_HEAD(*arrays, single, single)[1].ravel(), [0, 0])
    near(ONE_HEAD(*arrays, double, double)[1].ravel(), [1 / 2, 1 / 2])


def test_a_query_that_sees_no_key_outputs_the_bias_of_the_projection():
    module = dataclasses.replace(ONE_HEAD, v_bias=row(5)[0], out_bias=row(0.5)[0])
    queries, keys = column(1, 1)[None], column(0, log(3))[None]
    output, weights = module(queries, keys, column(4, 8)[None], np.array([[True, True], [False, True]]))
    near(output, [[[0.5], [9.5]]])
    near(weights, [[[[0, 0], [1, 0]]]])


def test_every_projection_has_its_own_weight_and_bias():
    q, k, v = (np.array([[3.0]]), row(2, 0), row(1, 1, 1))
    biases = [np.array([b]) for b in (-2.0, log(3), 1.0, 0.5)]
    module = MultiHeadAttention(1, q, k, v, np.array([[10.0]]), *biases)
    key, value = np.array([[[0, 9], [-log(3) / 2, 7]]]), np.array([[[1.0, 1, 1], [3, 2, 2]]])
    output, weights = module(np.ones((1, 1, 1)), key, value)  # q = 1, k = ln 3 and 0, v = 4 and 8
    near(weights.ravel(), [3 / 4, 1 / 4])
    near(output.ravel(), [50.5])


def test_a_projection_multiplies_by_the_rows_of_its_weight():
    swap_and_double = np.array([[0.0, 1], [2, 0]])
    arrays = [row(1, 1)[None], row(1, 1)[None], row(10, 1)[None]]
    near(dataclasses.replace(TWO_HEADS, v_weight=swap_and_double)(*arrays)[0], [[[1, 20]]])
    near(dataclasses.replace(TWO_HEADS, out_weight=swap_and_double)(*arrays)[0], [[[1, 20]]])


def test_the_scale_of_a_head_is_that_of_its_own_dimension():
    module = MultiHeadAttention(2, *[np.eye(8)] * 4)
    key = np.stack([np.zeros(8), np.full(8, log(9) / 4)])[None]
    _, weights = module(np.ones((1, 1, 8)), key, key)
    near(weights.reshape(2, 2), [[1 / 4, 3 / 4]] * 2)


def test_the_first_head_owns_the_first_features():
    key, value = np.array([[[0, 0], [log(3), 0]]]), np.array([[[4.0, 4], [8, 8]]])
    output, weights = TWO_HEADS(np.ones((1, 1, 2)), key, value)
    near(output, [[[7, 6]]])
    near(weights.reshape(2, 2), [[1 / 4, 3 / 4], [1 / 2, 1 / 2]])


def test_the_features_of_a_head_are_neighbours():
    module = MultiHeadAttention(2, *[np.eye(4)] * 4)
    key = np.array([[[0, 0, 0, 0], [log(3) * 2**0.5, 0, 0, 0]]])
    value = np.array([[[4.0, 40, 400, 4000], [8, 80, 800, 8000]]])
    near(module(np.ones((1, 1, 4)), key, value)[0], [[[7, 70, 600, 6000]]])


def two_batches_two_heads(queries=1):
    query, key = np.ones((2, queries, 2)), np.tile([[0.0, 0], [log(3), log(3)]], (2, 1, 1))
    return query, key, np.tile([[4.0, 40], [8, 80]], (2, 1, 1))


@pytest.mark.parametrize("form", [bool, float])
def test_slice_2n_plus_h_of_a_mask_per_head_is_that_of_batch_n_and_head_h(form):
    hide = np.array([[[0, 0]], [[1, 0]], [[0, 1]], [[1, 1]]], bool)
    mask = hide if form is bool else np.where(hide, -inf, 0)
    output, weights = TWO_HEADS(*two_batches_two_heads(), mask)
    near(output, [[[7, 80]], [[4, 0]]])
    near(weights.reshape(4, 2), [[1 / 4, 3 / 4], [0, 1], [1, 0], [0, 0]])


def test_a_shared_mask_has_queries_as_rows_and_keys_as_columns():
    hide = np.array([[False, True], [False, False]])
    output, _ = TWO_HEADS(*two_batches_two_heads(queries=2), hide)
    near(output, [[[4, 40], [7, 70]]] * 2)


@pytest.mark.parametrize("form", [bool, float])
def test_padding_hides_a_key_of_one_sample_from_all_its_queries_and_heads(form):
    hide = np.array([[False, True], [True, False]])
    padding = hide if form is bool else np.where(hide, -inf, 0)
    output, _ = TWO_HEADS(*two_batches_two_heads(queries=2), key_padding_mask=padding)
    near(output, [[[4, 40], [4, 40]], [[8, 80], [8, 80]]])


def test_padded_queries_are_ordinary_queries():
    x = column(0, log(3))[None]
    output, _ = ONE_HEAD(x, x, column(4, 8)[None], key_padding_mask=np.array([[False, True]]))
    near(output, [[[4], [4]]])


APPENDING = {
    "bias_k": dataclasses.replace(ONE_HEAD, bias_k=np.array([log(4)]), bias_v=np.array([16.0])),
    "zero": dataclasses.replace(ONE_HEAD, add_zero_attn=True),
    "both": dataclasses.replace(ONE_HEAD, bias_k=np.array([log(4)]), bias_v=np.array([16.0]), add_zero_attn=True),
}
APPENDED_AND_MASKS = [
    ("bias_k", None, [1 / 8, 3 / 8, 4 / 8], 11.5),
    ("bias_k", [False, True], [1 / 5, 0, 4 / 5], 13.6),
    ("bias_k", [True, True], [0, 0, 1], 16),
    ("bias_k", [-inf, -inf], [0, 0, 1], 16),
    ("bias_k", [log(4), 0.0], [4 / 11, 3 / 11, 4 / 11], 104 / 11),
    ("zero", None, [1 / 5, 3 / 5, 1 / 5], 5.6),
    ("zero", [True, False], [0, 3 / 4, 1 / 4], 6),
    ("zero", [True, True], [0, 0, 1], 0),
    ("zero", [-inf, log(3)], [0, 9 / 10, 1 / 10], 7.2),
    ("both", None, [1 / 9, 3 / 9, 4 / 9, 1 / 9], 92 / 9),
    ("both", [True, True], [0, 0, 4 / 5, 1 / 5], 12.8),
    ("both", [-inf, 0.0], [0, 3 / 8, 4 / 8, 1 / 8], 11),
]


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
@pytest.mark.parametrize("appended, mask, weights, output", APPENDED_AND_MASKS)
def test_appended_keys_come_last_and_no_mask_hides_them(name, appended, mask, weights, output):
    actual = multi_head(module=APPENDING[appended], **{name: mask})
    near(actual[1], weights)
    near(actual[0], output)


def test_the_key_bias_counts_against_the_zero_key_that_does_not_have_it():
    biased = {name: dataclasses.replace(APPENDING[name], k_bias=np.array([log(2)])) for name in APPENDING}
    near(multi_head(module=biased["zero"])[1], [2 / 9, 6 / 9, 1 / 9])
    near(multi_head(module=biased["bias_k"])[1], [2 / 12, 6 / 12, 4 / 12])


def test_each_head_has_its_part_of_an_appended_key():
    module = dataclasses.replace(TWO_HEADS, bias_k=row(0, log(3))[0], bias_v=row(8, 80)[0])
    output, _ = module(row(1, 1)[None], row(0, 0)[None], row(4, 40)[None])
    near(output, [[[6, 70]]])


def test_static_keys_and_values_replace_the_projected_ones_of_batch_n_and_head_h():
    key, value = np.zeros((4, 2, 1)), np.array([[4, 8], [40, 80], [400, 800], [4000, 8000]], float)[:, :, None]
    key[:, 1, 0] = log(3), 0, -log(3), log(9)
    unused = np.full((2, 2, 2), np.nan)
    output, weights = TWO_HEADS(np.ones((2, 1, 2)), unused, unused, static_k=key, static_v=value)
    near(weights.reshape(4, 2), [[1 / 4, 3 / 4], [1 / 2, 1 / 2], [3 / 4, 1 / 4], [1 / 10, 9 / 10]])
    near(output, [[[7, 60]], [[500, 7600]]])


def test_one_of_static_keys_and_values_may_be_given_alone():
    swapped = {"static_k": column(log(3), 0)[None], "static_v": column(8, 4)[None]}
    near(multi_head(static_k=swapped["static_k"])[0], 5)
    near(multi_head(static_v=swapped["static_v"])[0], 5)


def test_masks_and_the_zero_key_apply_to_static_keys():
    module, static = APPENDING["zero"], column(0, log(3), log(9))[None]
    actual = multi_head([False, True, False], module=module, static_k=static, static_v=column(11, 0, 22)[None])
    near(actual[1], [1 / 11, 0, 9 / 11, 1 / 11])
    near(actual[0], 19)
