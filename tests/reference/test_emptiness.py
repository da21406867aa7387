"""No samples, no queries, no keys: shapes follow, and what there is nothing to see is zero."""

import numpy as np
import pytest

from reference.attention import scaled_dot_product_attention

from . import generated
from .comparing import same

APPENDING = [{}, {"extra_key": True}, {"add_zero_attn": True}]


@pytest.mark.parametrize("options", APPENDING, ids=lambda options: "".join(options) or "plain")
@pytest.mark.parametrize("N, L, S", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_emptiness_has_a_shape(options, N, L, S, masked):
    module = generated.attention(np.random.default_rng(0), 2, 3, **options)
    masks = {"attn_mask": np.zeros((L, S), bool), "key_padding_mask": np.zeros((N, S))} if masked else {}
    output, weights = module(*(np.zeros((N, length, 6)) for length in (L, S, S)), **masks)
    assert output.shape == (N, L, 6)
    assert weights.shape == (N, 2, L, S + len(options))


@pytest.mark.parametrize("N", [0, 2])
def test_static_keys_may_be_of_no_sample(N):
    module = generated.attention(np.random.default_rng(0), 2, 3)
    static = {name: np.zeros((2 * N, 5, 3)) for name in ("static_k", "static_v")}
    assert module(*[np.zeros((N, 4, 6))] * 3, **static)[1].shape == (N, 2, 4, 5)


def test_with_no_key_at_all_the_output_is_the_bias_of_the_projection():
    module = generated.attention(np.random.default_rng(0), 2, 3)
    output, _ = module(np.ones((2, 4, 6)), np.ones((2, 0, 6)), np.ones((2, 0, 6)))
    same(output, np.broadcast_to(module.out_bias, (2, 4, 6)))


@pytest.mark.parametrize("L, S", [(0, 3), (2, 0)])
def test_dot_product_attention_on_nothing(L, S):
    context = scaled_dot_product_attention(np.ones((L, 2)), np.ones((S, 2)), np.ones((S, 3)))
    same(context, np.zeros((L, 3)))
