"""Claims about the meaning of True, 1 and 0 in a mask."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .claim import Claim
from .comparing import (
    arbitrary,
    array,
    averaging,
    filled,
    internal_warnings,
    moved,
    near,
    needs_sdpa,
    reference_of,
    tokens,
    with_another,
)

pytestmark = [*internal_warnings]


def for_modules_and_for_sdpa(padding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From padding (N, S), True at padding: the mask for the nn modules, and the mask for SDPA."""
    key_padding_mask = padding  # True hides
    attn_mask = ~padding[:, None, None, :]  # True keeps, for scores (N, num_heads, L, S)
    return key_padding_mask, attn_mask


ONE_POLARITY = Claim(
    id="one-polarity",
    says="A bool mask means the same in all of PyTorch: True marks keys that may be attended.",
    verdict="false",
    because="""
    In `nn.MultiheadAttention`, `nn.TransformerEncoder`, `nn.TransformerDecoder` and `nn.Transformer` True *hides*;
    in `F.scaled_dot_product_attention` True *keeps*. An attention that averages the tokens 3, 5, 7, with 7 as
    padding, gives 4. With a mask of the other meaning it gives 7, the padding alone. Neither of them raises or warns.
    (1.13 has no `F.scaled_dot_product_attention`.)
    """,
    recipe=(for_modules_and_for_sdpa,),
    proof=("test_true_hides_in_the_modules", "test_true_keeps_in_sdpa"),
)


def test_true_hides_in_the_modules(training):
    x, padding = tokens(3, 5, 7), torch.tensor([[False, False, True]])
    attention = averaging().train(training)
    hides, _ = for_modules_and_for_sdpa(padding)
    near(attention(x, x, x, key_padding_mask=hides)[0], 4)
    near(attention(x, x, x, key_padding_mask=~hides)[0], 7)


@needs_sdpa
def test_true_keeps_in_sdpa():
    value, padding = tokens(3, 5, 7)[:, None], torch.tensor([[False, False, True]])
    query = key = torch.zeros_like(value)
    _, keeps = for_modules_and_for_sdpa(padding)
    near(F.scaled_dot_product_attention(query, key, value, keeps), 4)
    near(F.scaled_dot_product_attention(query, key, value, ~keeps), 7)


def causal_mask(S: int) -> torch.Tensor:
    """(S, S), True above the diagonal: hides later keys from each query."""
    return torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1)


TRIL = Claim(
    id="tril-is-causal",
    says="`torch.tril(torch.ones(S, S, dtype=torch.bool))` as `src_mask` makes a model causal.",
    verdict="false",
    because="""
    True hides in the nn modules. The mask hides the past and the token itself, and shows the future; the last query
    is fully masked. With three tokens and equal scores the weights of the first query are (0, 1/2, 1/2), those of the
    second (0, 0, 1), and those of the last NaN. (For the output of such a query see `need-weights`.) The mask is right
    for `F.scaled_dot_product_attention`, because True keeps there.
    """,
    recipe=(causal_mask,),
    proof=(
        "test_tril_hides_the_past_and_leaves_the_last_query_nothing",
        "test_tril_shows_an_encoder_the_future",
        "test_triu_above_the_diagonal_is_causal",
        "test_tril_is_right_for_sdpa",
    ),
)


def test_tril_hides_the_past_and_leaves_the_last_query_nothing(training):
    x, tril = tokens(3, 5, 7), torch.tril(torch.ones(3, 3, dtype=torch.bool))
    _, weights = averaging().train(training)(x, x, x, attn_mask=tril)
    near(weights, [[[0, 1 / 2, 1 / 2], [0, 0, 1], [math.nan] * 3]])


def test_tril_shows_an_encoder_the_future(training):
    layer = filled(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)).train(training)
    src, future = arbitrary(1, 3, 4), with_another(arbitrary(1, 3, 4), 2)
    tril = torch.tril(torch.ones(3, 3, dtype=torch.bool))
    assert (moved(layer(src, tril), layer(future, tril))[0, :2] > 0.01).all()
    near(moved(layer(src, causal_mask(3)), layer(future, causal_mask(3)))[0, :2], 0)


def test_triu_above_the_diagonal_is_causal(training):
    x = tokens(3, 5, 7)
    output, weights = averaging().train(training)(x, x, x, attn_mask=causal_mask(3))
    near(output[0, :, 0], [3, 4, 5])
    near(weights, [[[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]])


@needs_sdpa
def test_tril_is_right_for_sdpa():
    value = tokens(3, 5, 7)
    query = key = torch.zeros_like(value)
    output = F.scaled_dot_product_attention(query, key, value, torch.tril(torch.ones(3, 3, dtype=torch.bool)))
    near(output[0, :, 0], [3, 4, 5])


def padding_from_tokenizer(attention_mask: torch.Tensor) -> torch.Tensor:
    """From a tokenizer's mask (N, S), 1 for a token and 0 for padding, to key_padding_mask: True at padding."""
    return attention_mask == 0


TOKENIZER_MASK = Claim(
    id="tokenizer-mask",
    says="The `attention_mask` of a tokenizer (1 for a token, 0 for padding) can be given as `src_key_padding_mask`.",
    verdict="false",
    because="""
    An integer mask raises: only bool and floating types are supported. `.bool()` avoids the error and inverts the
    meaning: of the tokens 3, 5 and the padding 7 only the padding is seen, and the average is 7 instead of 4.
    `.float()` adds 1 to the scores of the tokens (see `ones-and-zeros`).
    """,
    recipe=(padding_from_tokenizer,),
    proof=("test_an_integer_mask_is_refused", "test_the_zeros_of_a_tokenizer_are_padding"),
)


def test_an_integer_mask_is_refused(training):
    x, attention_mask = tokens(3, 5, 7), torch.tensor([[1, 1, 0]])
    with pytest.raises(AssertionError, match="only bool and floating types of key_padding_mask are supported"):
        averaging().train(training)(x, x, x, key_padding_mask=attention_mask)


def test_the_zeros_of_a_tokenizer_are_padding(training):
    x, attention_mask = tokens(3, 5, 7), torch.tensor([[1, 1, 0]])
    attention = averaging().train(training)
    near(attention(x, x, x, key_padding_mask=padding_from_tokenizer(attention_mask))[0], 4)
    near(attention(x, x, x, key_padding_mask=attention_mask.bool())[0], 7)


def additive(keep: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """From a mask of 1 (keep) and 0 (hide) to a mask that is added to the scores: 0 and -inf."""
    return torch.zeros(keep.shape, dtype=dtype).masked_fill(keep == 0, -math.inf)


ONES_AND_ZEROS = Claim(
    id="ones-and-zeros",
    says="A float mask of ones (keep) and zeros (hide) does what a bool mask does.",
    verdict="false",
    because="""
    A float mask is *added* to the scores. Ones and zeros hide nothing: of two keys with equal scores, the "hidden"
    one keeps the weight 1/(1 + e) = 0.269. In eval without autograd, `nn.TransformerEncoderLayer` with
    `batch_first=True` and an even number of heads reads a float mask as bool (padding on every release; `src_mask`
    since 2.0, see `relative-attention`) and hides the ones: training and inference differ.
    """,
    recipe=(additive,),
    proof=("test_ones_are_added_to_the_scores", "test_in_eval_the_native_layer_hides_the_ones"),
)


def test_ones_are_added_to_the_scores():
    x, keep = tokens(3, 5), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    attention = averaging()
    _, weights = attention(x, x, x, key_padding_mask=keep)
    near(weights, [[[math.e / (1 + math.e), 1 / (1 + math.e)]] * 2])
    near(attention(x, x, x, key_padding_mask=additive(keep, torch.float64))[0], 3)


def test_in_eval_the_native_layer_hides_the_ones():
    layer = filled(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)).eval()
    src, keep = arbitrary(1, 2, 4), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    reference, x, ones, zeros = reference_of(layer), array(src), array(keep == 1), array(keep == 0)
    with torch.no_grad():
        near(layer(src, src_key_padding_mask=keep), reference(x, src_key_padding_mask=ones))
        right = layer(src, src_key_padding_mask=additive(keep, torch.float64))
    near(right, reference(x, src_key_padding_mask=zeros))


ZERO_TIMES_INF = Claim(
    id="zero-times-infinity",
    says="`(1 - keep) * float('-inf')` turns a mask of ones and zeros into an additive mask.",
    verdict="false",
    because="""
    0 · inf is NaN. Every key to be kept gets NaN: `(1 - tensor([1, 0])) * -inf` is [NaN, -inf]. So does
    `torch.triu(torch.ones(S, S), 1) * -inf`. Right is `torch.triu(torch.full((S, S), -inf), 1)`: it sets zeros
    instead of multiplying, and equals `generate_square_subsequent_mask(S)`.
    """,
    recipe=(additive,),
    proof=("test_zero_times_infinity_is_nan", "test_a_triangle_of_infinities"),
)


def test_zero_times_infinity_is_nan():
    keep = torch.tensor([1.0, 0.0])
    near((1 - keep) * -math.inf, [math.nan, -math.inf])
    near(additive(keep), [0, -math.inf])


def test_a_triangle_of_infinities():
    expected = [[0, -math.inf], [0, 0]]
    near(torch.triu(torch.ones(2, 2), 1) * -math.inf, [[math.nan, -math.inf], [math.nan, math.nan]])
    near(torch.triu(torch.full((2, 2), -math.inf), 1), expected)
    near(nn.Transformer.generate_square_subsequent_mask(2), expected)
    near(additive(torch.tril(torch.ones(2, 2))), expected)
