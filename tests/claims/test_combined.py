"""Claims about combined masks, and masks per sample and per head."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference.attention import scaled_dot_product_attention

from .claim import Claim
from .comparing import (
    arbitrary,
    array,
    averaging,
    filled,
    internal_warnings,
    near,
    needs_sdpa,
    reference_of,
    since,
    tokens,
)

pytestmark = [*internal_warnings]

PADDING = torch.tensor([[False, False, True], [False, False, False]])  # (N, S) = (2, 3)
CAUSAL = np.triu(np.ones((3, 3), bool), 1)


def combined_for_sdpa(padding: torch.Tensor) -> torch.Tensor:
    """From padding (N, S): a causal mask with padding, True keeps, (N, 1, S, S) for all heads."""
    S = padding.shape[1]
    causal = torch.tril(torch.ones(S, S, dtype=torch.bool))
    return causal & ~padding[:, None, None, :]


COMBINED_SDPA = Claim(
    id="combined-mask-sdpa",
    says="One mask can replace both: `tril & ~padding.unsqueeze(1)`, for `F.scaled_dot_product_attention`.",
    verdict="true if it gets an axis for the heads",
    because="""
    In this function True keeps, so `tril` and `~padding` are right. But with `padding.unsqueeze(1)` the mask is
    (N, S, S), and broadcasts against the scores (N, num_heads, S, S) as if samples were heads: an error in general,
    and silently wrong if N equals num_heads. (1.13 has no `F.scaled_dot_product_attention`.)
    """,
    recipe=(combined_for_sdpa,),
    proof=("test_combined_for_sdpa", "test_without_an_axis_for_heads"),
)


@needs_sdpa
@pytest.mark.parametrize("num_heads", [2, 3])
def test_combined_for_sdpa(num_heads):
    query, key, value = (arbitrary(2, num_heads, 3, 4) + i for i in range(3))
    expected = scaled_dot_product_attention(
        array(query), array(key), array(value), ~(CAUSAL | array(PADDING)[:, None, None, :])
    )
    near(F.scaled_dot_product_attention(query, key, value, combined_for_sdpa(PADDING)), expected)


@needs_sdpa
def test_without_an_axis_for_heads():
    keep = torch.tril(torch.ones(3, 3, dtype=torch.bool)) & ~PADDING.unsqueeze(1)
    value = tokens(3, 5, 7).expand(2, 3, 3, 2)
    with pytest.raises(RuntimeError, match=r"must match the size|expanded size"):
        F.scaled_dot_product_attention(torch.zeros_like(value), torch.zeros_like(value), value, keep)
    value = value[:, :2]  # N = num_heads = 2
    output = F.scaled_dot_product_attention(torch.zeros_like(value), torch.zeros_like(value), value, keep)
    near(output[:, :, 2, 0], [[4, 5], [4, 5]])  # varies by head; [[4, 4], [5, 5]] is right


def combined_bool(padding: torch.Tensor, num_heads: int) -> torch.Tensor:
    """From padding (N, S): a causal attn_mask with padding, (N * num_heads, S, S), True hides."""
    S = padding.shape[1]
    causal = torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1)
    hidden = causal | padding[:, None, :]  # (N, S, S)
    return hidden.repeat_interleave(num_heads, dim=0)


def combined_float(padding: torch.Tensor, num_heads: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """From padding (N, S): a causal attn_mask with padding, (N * num_heads, S, S), 0 keeps and -inf hides."""
    hidden = combined_bool(padding, num_heads)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -math.inf)


COMBINED_MODULES = Claim(
    id="combined-mask-modules",
    says="One mask can replace both: `tril & ~padding.unsqueeze(1)` as `src_mask`.",
    verdict="false",
    because="""
    This mask is inverted (True hides in the nn modules), and the shape (N, S, S) raises: a mask of three axes must be
    (N·num_heads, S, S). The right mask is `triu(diagonal=1) | padding`, repeated for the heads. For one sample a 2-D
    mask is enough. All these forms agree with two separate masks, in train and eval mode, on every release. Two
    separate masks are simpler.
    """,
    recipe=(combined_bool, combined_float),
    proof=("test_combined_for_modules", "test_a_mask_per_sample_is_refused", "test_two_dimensions_for_one_sample"),
)


def layer() -> nn.TransformerEncoderLayer:
    return filled(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True))


def stack() -> nn.TransformerEncoder:
    return filled(nn.TransformerEncoder(layer(), num_layers=2))


def test_combined_for_modules(training):
    model, src = layer().train(training), arbitrary(2, 3, 4)
    expected = reference_of(model)(array(src), CAUSAL, array(PADDING))
    near(model(src, combined_bool(PADDING, 2)), expected)
    near(model(src, combined_float(PADDING, 2, torch.float64)), expected)


def test_a_mask_per_sample_is_refused(training):
    hidden = torch.tensor(CAUSAL) | PADDING[:, None, :]
    with pytest.raises(RuntimeError, match=r"3D attn_mask is|mask shape should match"):
        layer().train(training)(arbitrary(2, 3, 4), hidden)


def test_two_dimensions_for_one_sample(training):
    model, src, padding = layer().train(training), arbitrary(1, 3, 4), PADDING[:1]
    expected = reference_of(model)(array(src), CAUSAL, array(padding))
    near(model(src, torch.tensor(CAUSAL) | padding), expected)


def per_head(mask: torch.Tensor) -> torch.Tensor:
    """From (N, num_heads, L, S) to (N * num_heads, L, S): slice n * num_heads + h is for sample n and head h."""
    return mask.flatten(0, 1)


FOUR_AXES = Claim(
    id="mask-per-head",
    says="A mask for each head is given as (N, num_heads, L, S).",
    verdict="false",
    because="""
    `F.scaled_dot_product_attention` takes this shape (1.13 does not have the function). The nn modules take three
    axes, (N·num_heads, L, S), and raise for four. Slice n·num_heads + h is for sample n and head h.
    """,
    recipe=(per_head,),
    proof=("test_four_axes_are_refused", "test_a_mask_per_head", "test_four_axes_for_sdpa"),
)


def test_four_axes_are_refused(training):
    x = arbitrary(2, 3, 4)
    with pytest.raises((AssertionError, RuntimeError), match=r"4-D tensor instead|is invalid for input of size"):
        layer().train(training)(x, torch.zeros(2, 2, 3, 3, dtype=torch.bool))


SELF = torch.eye(2, dtype=torch.bool)
KEEP = torch.stack([torch.stack([SELF, ~SELF]), torch.stack([SELF, SELF])])  # (N, num_heads, L, S)


def test_a_mask_per_head(training):
    x = torch.cat([tokens(3, 5), tokens(7, 9)])
    output, _ = averaging().train(training)(x, x, x, attn_mask=per_head(~KEEP))
    near(output, [[[3, 5], [5, 3]], [[7, 7], [9, 9]]])  # one feature for each head


@needs_sdpa
def test_four_axes_for_sdpa():
    value = torch.cat([tokens(3, 5), tokens(7, 9)])[:, None].repeat(1, 2, 1, 1)
    output = F.scaled_dot_product_attention(torch.zeros_like(value), torch.zeros_like(value), value, KEEP)
    near(output[..., 0], [[[3, 5], [5, 3]], [[7, 9], [7, 9]]])


def for_all_heads(mask: torch.Tensor, num_heads: int) -> torch.Tensor:
    """From a mask for each sample (N, L, S) to attn_mask (N * num_heads, L, S)."""
    return mask.repeat_interleave(num_heads, dim=0)  # a, a, b, b


REPEAT = Claim(
    id="repeat-for-heads",
    says="`mask.repeat(num_heads, 1, 1)` repeats a mask for each sample (N, L, S) for all heads.",
    verdict="false",
    because="""
    Slices are ordered sample by sample: a, a, b, b. `repeat` gives a, b, a, b in the same shape: heads get the masks
    of other samples, without an error. Take two samples (3, 5) and (7, 9), and masks that show the first token of the
    first sample and the second token of the second: the outputs are 3 and 9. With `repeat`, the heads give (3, 5) and
    (7, 9).
    """,
    recipe=(for_all_heads,),
    proof=("test_repeat_mixes_the_samples",),
)


def test_repeat_mixes_the_samples(training):
    x, attention = torch.cat([tokens(3, 5), tokens(7, 9)]), averaging().train(training)
    hidden = torch.tensor([[[False, True]], [[True, False]]]).expand(2, 2, 2)
    near(attention(x, x, x, attn_mask=for_all_heads(hidden, 2))[0], [[[3, 3]] * 2, [[9, 9]] * 2])
    near(attention(x, x, x, attn_mask=hidden.repeat(2, 1, 1))[0], [[[3, 5]] * 2, [[7, 9]] * 2])


def causal_with_padding_anywhere(padding: torch.Tensor, num_heads: int) -> torch.Tensor:
    """attn_mask (N * num_heads, S, S), True hides. Each position sees itself, so that no query is fully masked."""
    S = padding.shape[1]
    causal = torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1)
    itself = torch.eye(S, dtype=torch.bool)
    return ((causal | padding[:, None, :]) & ~itself).repeat_interleave(num_heads, dim=0)


LEFT_PADDING = Claim(
    id="left-padding",
    says="With a causal mask, padding on the left works just as padding on the right does.",
    verdict="true if every query sees a key",
    because="""
    With padding on the left, the first queries could see only padding: they are fully masked. A fully masked query
    gives NaN if weights are computed, on the native paths, and in all calls before 2.5 (see `need-weights`). In the
    next layer NaN times the weight 0 is NaN: in eval without autograd, with `batch_first=True` and an even number of
    heads, all outputs of the sample are NaN, on every release; otherwise they are before 2.5. If each position may see
    itself, real tokens get the right outputs, and padded positions finite ones.
    """,
    recipe=(causal_with_padding_anywhere,),
    proof=("test_left_padding_empties_rows", "test_an_empty_row_spreads_in_eval", "test_seeing_oneself_is_enough"),
)

LEFT = torch.tensor([[True, False, False], [False, False, False]])


def test_left_padding_empties_rows(training):
    x = tokens(3, 5, 7).repeat(2, 1, 1)
    attn_mask = torch.tensor(CAUSAL)
    _, weights = averaging().train(training)(x, x, x, attn_mask=attn_mask, key_padding_mask=LEFT)
    near(weights[0], [[math.nan] * 3, [0, 1, 0], [0, 1 / 2, 1 / 2]])


@torch.no_grad()
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_empty_row_spreads_in_eval(batch_first):
    src, causal = arbitrary(2, 3, 4), torch.tensor(CAUSAL)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=batch_first)
    model = filled(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    output = model(src if batch_first else src.transpose(0, 1), mask=causal, src_key_padding_mask=LEFT)
    output = output if batch_first else output.transpose(0, 1)
    spreads = batch_first or not since("2.5")
    assert (output[0].isnan() if spreads else output[0].isfinite()).all()
    assert output[1].isfinite().all()


def test_seeing_oneself_is_enough(training):
    model, src = stack().train(training), arbitrary(2, 3, 4)
    output = model(src, mask=causal_with_padding_anywhere(LEFT, num_heads=2))
    assert output.isfinite().all()
    alone = reference_of(model)(array(src)[:1, 1:], CAUSAL[1:, 1:])  # the first sample, cut to its real tokens
    near(output[0, 1:], alone[0])
