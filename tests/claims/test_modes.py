"""Claims about options that should not change the result: need_weights, train or eval mode, the types of two masks."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from reference import masks

from .claim import Claim
from .comparing import arbitrary, array, filled, internal_warnings, near, reference_of, since

pytestmark = [*internal_warnings]

PADDING = torch.tensor([[False, False, True], [False, False, False]])
CAUSAL = torch.tensor(masks.causal(3, 3))


def attend_without_weights(attention: nn.MultiheadAttention, x: torch.Tensor, **given: torch.Tensor) -> torch.Tensor:
    """Self-attention without weights: the second result of the module is None."""
    output, _ = attention(x, x, x, need_weights=False, **given)
    return output


NEED_WEIGHTS = Claim(
    id="need-weights",
    says="`need_weights=False` only saves time; the output is the same.",
    verdict="true if every query sees a key",
    because="""
    With both masks `nn.MultiheadAttention` agrees with the reference, with and without weights, in train and eval
    mode, on every release. The exception is a fully masked query: its output is NaN with weights. Without weights, it
    is the bias of the output projection since 2.5, and NaN before. On the fast path (eval without autograd) it is NaN
    in both cases, on every release.
    """,
    recipe=(attend_without_weights,),
    proof=("test_the_output_does_not_depend_on_need_weights", "test_an_empty_row_does"),
)


def attention() -> nn.MultiheadAttention:
    return filled(nn.MultiheadAttention(4, 2, batch_first=True))


def test_the_output_does_not_depend_on_need_weights(training):
    model, x = attention().train(training), arbitrary(2, 3, 4)
    given = {"attn_mask": CAUSAL, "key_padding_mask": PADDING}
    expected, weights = reference_of(model)(array(x), array(x), array(x), array(CAUSAL), array(PADDING))
    near(attend_without_weights(model, x, **given), expected)
    near(model(x, x, x, **given)[0], expected)
    near(model(x, x, x, **given)[1], weights.mean(axis=1))


def test_an_empty_row_does(training):
    model, x = attention().train(training), arbitrary(1, 3, 4)
    empty = torch.tensor([[True, True, True], [False] * 3, [False] * 3])
    near(model(x, x, x, attn_mask=empty)[0][0, 0], math.nan)
    without = attend_without_weights(model, x, attn_mask=empty)[0, 0]
    near(without, array(model.out_proj.bias) if since("2.5") and training else math.nan)


def encode_alike(
    encoder: nn.TransformerEncoder, src: torch.Tensor, hidden: torch.Tensor | None, padding: torch.Tensor
) -> torch.Tensor:
    """hidden (S, S) and padding (N, S) are bool, and every query sees a key. Padded positions of the output are 0."""
    encoded = encoder(src, mask=hidden, src_key_padding_mask=padding)
    return encoded.masked_fill(padding[..., None], 0)


TRAIN_AND_EVAL = Claim(
    id="train-and-eval",
    says="Without dropout, train and eval mode compute the same.",
    verdict="true if masks are bool, every query sees a key, and outputs at padded positions are ignored",
    because="""
    In eval without autograd, native kernels compute the result if `batch_first` is True and the number of heads is
    even. With bool masks it is the same, on every release. Masks make three differences. The encoder layer reads a
    float mask as bool: a padding mask of 0 and 1 hides the keys with 1. The encoder writes zeros at padded positions
    (see `padded-outputs`). A fully masked query gives NaN, although since 2.5 it does not in training (see
    `left-padding`). Apart from masks, these kernels compute another GELU for `nn.GELU(approximate="tanh")`, and call
    no adapter and no overridden method (see `hooks-in-eval`); the [catalogue](edge-cases.md) has more.
    """,
    recipe=(encode_alike,),
    proof=("test_bool_masks_mean_the_same_in_both_modes", "test_float_padding_is_read_as_bool_in_eval"),
)


def stack() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
    return filled(nn.TransformerEncoder(layer, num_layers=2))


@pytest.mark.parametrize("hidden", [None, CAUSAL], ids=["padding", "both"])
def test_bool_masks_mean_the_same_in_both_modes(hidden, training):
    model, src = stack().train(training), arbitrary(2, 3, 4)
    expected = reference_of(model)(array(src), None if hidden is None else array(hidden), array(PADDING))
    near(encode_alike(model, src, hidden, PADDING), np.where(array(PADDING)[..., None], 0, expected))


def test_float_padding_is_read_as_bool_in_eval(training):
    layer, src = stack().layers[0].train(training), arbitrary(1, 3, 4)
    padding = np.array([[0.0, 0.0, 1.0]])
    read_as = padding if training else padding != 0
    near(layer(src, src_key_padding_mask=torch.tensor(padding)), reference_of(layer)(array(src), None, read_as))


def two_masks_of_one_type(S: int, padding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A causal mask and padding (N, S), both bool. From 2.0 on, two float masks of 0 and -inf are right as well."""
    return torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1), padding


MIXED_TYPES = Claim(
    id="mixed-types",
    says="The float mask of `generate_square_subsequent_mask` can be combined with a bool padding mask.",
    verdict="true, with a warning since 2.0",
    because="""
    The result is right on every release, in train and eval mode. Since 2.0 torch warns that mismatched masks are
    deprecated. Two bool masks are right on every release, without a warning. Two float masks are right since 2.0;
    1.13 silently ignores a float padding mask beside a float mask.
    """,
    recipe=(two_masks_of_one_type,),
    proof=("test_mixed_types_work_and_warn", "test_two_float_masks"),
)


def _attend(model, x, attn_mask, key_padding_mask):
    return _warned(lambda: model(x, x, x, attn_mask=attn_mask, key_padding_mask=key_padding_mask)[0])


def _warned(call):
    """(output, True if torch warned of mismatched masks)"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = call()
    return output, any("mismatched" in str(warning.message) for warning in caught)


def test_mixed_types_work_and_warn(training):
    model, x = attention().train(training), arbitrary(2, 3, 4)
    expected, _ = reference_of(model)(array(x), array(x), array(x), array(CAUSAL), array(PADDING))
    output, warned = _attend(model, x, nn.Transformer.generate_square_subsequent_mask(3).to(x), PADDING)
    near(output, expected)
    assert warned == since("2.0")
    layer, reference = stack().layers[0].train(training), reference_of(stack().layers[0])
    output, warned = _warned(lambda: layer(x, nn.Transformer.generate_square_subsequent_mask(3).to(x), PADDING))
    near(output, reference(array(x), array(CAUSAL), array(PADDING)))
    assert warned == since("2.0")
    output, warned = _attend(model, x, *two_masks_of_one_type(3, PADDING))
    near(output, expected)
    assert not warned


def test_two_float_masks(training):
    model, x = attention().train(training), arbitrary(2, 3, 4)
    causal, padding = (torch.zeros(m.shape).to(x).masked_fill(m, -math.inf) for m in (CAUSAL, PADDING))
    seen = array(PADDING) if since("2.0") else None
    expected, _ = reference_of(model)(array(x), array(x), array(x), array(CAUSAL), seen)
    output, warned = _attend(model, x, causal, padding)
    near(output, expected)
    assert not warned
