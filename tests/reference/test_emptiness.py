"""Calls without samples, queries or keys: shapes are right, and a context without keys is zero."""

import numpy as np
import pytest

from reference.attention import scaled_dot_product_attention

from . import generated
from .comparing import same

NO_SAMPLES, NO_QUERIES, NO_KEYS, NOTHING = (0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)
SIZES_AND_OPTIONS = [
    *[(sizes, {}) for sizes in (NO_SAMPLES, NO_QUERIES, NO_KEYS, NOTHING)],
    *[(sizes, {"extra_key": True}) for sizes in (NO_SAMPLES, NO_QUERIES, NO_KEYS, NOTHING)],
    *[(sizes, {"add_zero_attn": True}) for sizes in (NO_SAMPLES, NO_QUERIES, NO_KEYS, NOTHING)],
]


@pytest.mark.parametrize("sizes, options", SIZES_AND_OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_emptiness_has_a_shape(sizes, options, masked):
    N, L, S = sizes
    module = generated.attention(np.random.default_rng(0), 2, 3, **options)
    masks = {"attn_mask": np.zeros((L, S), bool), "key_padding_mask": np.zeros((N, S))} if masked else {}
    output, weights = module(*(np.zeros((N, length, 6)) for length in (L, S, S)), **masks)
    assert output.shape == (N, L, 6)
    assert weights.shape == (N, 2, L, S + len(options))


def test_static_keys_may_be_of_no_sample():
    module = generated.attention(np.random.default_rng(0), 2, 3)
    _, weights = module(*[np.zeros((0, 4, 6))] * 3, static_k=np.zeros((0, 5, 3)), static_v=np.zeros((0, 5, 3)))
    assert weights.shape == (0, 2, 4, 5)


def test_with_no_key_at_all_the_output_is_the_bias_of_the_projection():
    module = generated.attention(np.random.default_rng(0), 2, 3)
    output, _ = module(np.ones((2, 4, 6)), np.ones((2, 0, 6)), np.ones((2, 0, 6)))
    same(output, np.broadcast_to(module.out_bias, (2, 4, 6)))


@pytest.mark.parametrize("L, S", [(0, 3), (2, 0)])
def test_dot_product_attention_on_nothing(L, S):
    context = scaled_dot_product_attention(np.ones((L, 2)), np.ones((S, 2)), np.ones((S, 3)))
    same(context, np.zeros((L, 3)))
