"""Claims about scores, softmax and the numbers that hide a key."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference.attention import scaled_dot_product_attention

from .claim import Claim
from .comparing import arbitrary, array, internal_warnings, near, needs_sdpa, since

pytestmark = [*internal_warnings]


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """query (..., L, D), key (..., S, D), value (..., S, Dv); hidden broadcasts to (..., L, S), True hides."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
    return weights @ value


MATMUL = Claim(
    id="matmul-attention",
    says="`torch.matmul(query, key, value, attention_mask=mask)` computes attention.",
    verdict="false",
    because="""
    `torch.matmul` multiplies two tensors, and raises TypeError for a third tensor or a mask. The formula takes three
    lines, which work on every release. From 2.0 on, `F.scaled_dot_product_attention(query, key, value, ~hidden)`
    gives the same, except for a fully masked query: the formula gives NaN, and `F.scaled_dot_product_attention`
    gives 0 since 2.5.
    """,
    recipe=(attend,),
    proof=(
        "test_matmul_takes_two_tensors",
        "test_attention_in_three_lines",
        "test_sdpa_came_with_2_0",
        "test_sdpa_is_the_same",
    ),
)

HIDDEN = torch.tensor([[False, True, False], [True, False, False]])


def _qkv():
    return arbitrary(2, 1, 2, 4), arbitrary(2, 1, 3, 4), arbitrary(2, 1, 3, 5)


def test_matmul_takes_two_tensors():
    query, key, value = _qkv()
    with pytest.raises(TypeError):
        torch.matmul(query, key, value)
    with pytest.raises(TypeError):
        torch.matmul(query, key.transpose(-2, -1), attention_mask=HIDDEN)


def test_attention_in_three_lines():
    query, key, value = _qkv()
    expected = scaled_dot_product_attention(array(query), array(key), array(value), ~array(HIDDEN))
    near(attend(query, key, value, HIDDEN), expected)


def test_sdpa_came_with_2_0():
    assert hasattr(F, "scaled_dot_product_attention") == since("2.0")


@needs_sdpa
def test_sdpa_is_the_same():
    query, key, value = _qkv()
    near(F.scaled_dot_product_attention(query, key, value, ~HIDDEN), array(attend(query, key, value, HIDDEN)))
    nothing = torch.ones(2, 3, dtype=torch.bool)
    near(attend(query, key, value, nothing), math.nan)
    near(F.scaled_dot_product_attention(query, key, value, ~nothing), 0 if since("2.5") else math.nan)


def masked_softmax(scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """scores (..., S); hidden broadcasts to scores, True hides. The visible keys share the whole weight."""
    return torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)


MULTIPLIED = Claim(
    id="multiplied-mask",
    says="""
    A mask of ones and zeros can be multiplied: with the scores before the softmax, or with the weights after it.
    """,
    verdict="false",
    because="""
    A key with a score of 0 is not hidden, since exp(0) is 1. A weight that is set to 0 after the softmax is missing
    from the sum of the weights. For three keys with equal scores, one of them hidden, the right weights are
    (1/2, 1/2, 0). Multiplication before the softmax gives (1/3, 1/3, 1/3) for scores of 0; multiplication after it
    gives (1/3, 1/3, 0), with the sum 2/3.
    """,
    recipe=(masked_softmax,),
    proof=("test_a_mask_cannot_be_multiplied",),
)


def test_a_mask_cannot_be_multiplied():
    scores, keep = torch.zeros(3, dtype=torch.float64), torch.tensor([1, 1, 0])
    near(torch.softmax(scores * keep, dim=-1), [1 / 3, 1 / 3, 1 / 3])
    near(torch.softmax(scores, dim=-1) * keep, [1 / 3, 1 / 3, 0])
    near(masked_softmax(scores, keep == 0), [1 / 2, 1 / 2, 0])


def largest_finite(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A finite mask for any floating dtype, True in `hidden` hides. Do not add two of them: the sum is -inf."""
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)


BIG_NEGATIVE = Claim(
    id="big-negative",
    says="-1e9 is as good as -inf.",
    verdict="true if every query sees a key, and the dtype is not float16",
    because="""
    If the query sees another key, exp(-1e9) is exactly 0, and the weights are the same to the last bit. A query with
    -1e9 at every key is not fully masked: in float32 the scores vanish beside -1e9, and the values of all keys are
    averaged; -inf gives NaN. Its gradients are then too large by the number of keys, since 2.3, on CPU without weights
    (see [the catalogue](edge-cases.md#flash-gradient-finfo-min)). -1e9 does not fit into float16 (`masked_fill`
    raises). `torch.finfo(dtype).min` does, but the sum of two of them, one from each mask, is -inf again. In eval
    without autograd, `nn.TransformerEncoderLayer` hides a key for every number but 0 (see `ones-and-zeros`). Prefer
    bool masks, and let every query see a key.
    """,
    recipe=(largest_finite,),
    proof=(
        "test_beside_a_visible_key_it_hides_exactly",
        "test_alone_it_averages_what_is_hidden",
        "test_alone_its_gradients_are_multiplied",
        "test_it_does_not_fit_into_half",
        "test_two_of_the_largest_are_infinite",
    ),
)

SCORES = torch.tensor([0.5, -2.0, 3.0])


@pytest.mark.parametrize("number", [-1e9, -1e4, torch.finfo(torch.float32).min])
def test_beside_a_visible_key_it_hides_exactly(number):
    hidden = torch.tensor([False, True, True])
    near(torch.softmax(SCORES + number * hidden, dim=-1), [1, 0, 0], error=0)
    near(torch.softmax(SCORES + largest_finite(hidden, torch.float32), dim=-1), [1, 0, 0], error=0)


def test_alone_it_averages_what_is_hidden():
    near(torch.softmax(SCORES + -1e9, dim=-1), np.float32([1 / 3, 1 / 3, 1 / 3]), error=1e-6)
    near(torch.softmax(SCORES + -math.inf, dim=-1), [math.nan] * 3)


@needs_sdpa
@pytest.mark.parametrize("number", [-2e5, -1e7, -1e8, -3e8, -1e9, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("S", [5, 12, 33, 60, 600])
def test_alone_its_gradients_are_multiplied(number, S):
    query, key = torch.zeros(1, 1, 2, 4, requires_grad=True), torch.zeros(1, 1, S, 4)
    value = torch.ones(1, 1, S, 4, requires_grad=True)
    F.scaled_dot_product_attention(query, key, value, torch.full((2, S), number)).sum().backward()
    factor = value.grad.sum().item() / 8
    if not since("2.3"):
        near(np.array(factor), 1, error=1e-5)
    elif number > -1e8:
        assert abs(factor - 1) <= (0.01 if number == -2e5 else 0.65)
    elif number == -1e8:
        assert 1 / S <= factor <= S * 1.001
    else:
        near(np.array(factor), S, error=1e-3)


def test_it_does_not_fit_into_half():
    hidden = torch.tensor([False, True])
    with pytest.raises(RuntimeError, match="without overflow"):
        torch.zeros(2, dtype=torch.float16).masked_fill(hidden, -1e9)
    near(largest_finite(hidden, torch.float16), [0, -65504])


def test_two_of_the_largest_are_infinite():
    mask = largest_finite(torch.tensor([False, True]), torch.float32)
    near(mask + mask, [0, -math.inf])


def weights_of_given_keys(weights: torch.Tensor, S: int) -> torch.Tensor:
    """From (..., L, S + appended) to (..., L, S). The sum may be less than 1: appended keys have the rest."""
    return weights[..., :S]


WIDER_WEIGHTS = Claim(
    id="weights-of-appended-keys",
    says="The weights that `nn.MultiheadAttention` returns are (N, L, S), or (N, num_heads, L, S) for each head.",
    verdict="true if no keys are appended",
    because="""
    `add_bias_kv` and `add_zero_attn` append one key each. No mask hides an appended key, and its weights are returned
    after those of the S given keys: with both options the shape is (N, L, S + 2), although torch's page says
    (N, L, S). If all scores are 0 and one of three given keys is hidden, the weights of the given keys are 1/4, 1/4
    and 0, and those of the two appended keys 1/4 each.
    """,
    recipe=(weights_of_given_keys,),
    proof=("test_weights_are_as_wide_as_the_keys_with_what_is_appended",),
)


@pytest.mark.parametrize("averages", [True, False])
@pytest.mark.parametrize(("add_bias_kv", "add_zero_attn"), [(False, False), (True, False), (False, True), (True, True)])
def test_weights_are_as_wide_as_the_keys_with_what_is_appended(add_bias_kv, add_zero_attn, averages, training):
    options = {"add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn, "batch_first": True}
    attention = nn.MultiheadAttention(4, 2, **options).train(training)
    nn.init.zeros_(attention.in_proj_weight)  # so that all scores are 0
    x, hidden = arbitrary(1, 3, 4).to(attention.in_proj_weight), torch.tensor([[False, False, True]])
    _, weights = attention(x, x, x, key_padding_mask=hidden, average_attn_weights=averages)
    appended = add_bias_kv + add_zero_attn
    assert weights.shape == ((1, 3, 3 + appended) if averages else (1, 2, 3, 3 + appended))
    each = 1 / (2 + appended)
    near(weights, [each, each, 0, *[each] * appended], error=1e-6)
    near(weights_of_given_keys(weights, 3), [each, each, 0], error=1e-6)
