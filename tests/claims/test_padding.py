"""Claims about padding."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .claim import Claim
from .comparing import (
    PAD,
    arbitrary,
    array,
    averaging,
    filled,
    internal_warnings,
    moved,
    near,
    needs_sdpa,
    reference_of,
    since,
    tokens,
    with_another,
)

pytestmark = [*internal_warnings]

IDS = torch.tensor([[4, 2, 6, PAD, PAD], [3, 1, 5, 2, 7]])
PADDING = IDS == PAD


def encoder(num_layers: int = 2, **options: bool) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
    return filled(nn.TransformerEncoder(layer, num_layers, **options))


def encode_ids(encoder: nn.TransformerEncoder, src: torch.Tensor, ids: torch.Tensor, pad: int = 0) -> torch.Tensor:
    """src (N, S, E), the embedding of ids (N, S): causal attention among the tokens that are not padding."""
    S = ids.shape[1]
    src_mask = torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1)  # (S, S): hides keys from queries
    src_key_padding_mask = ids == pad  # (N, S): hides tokens from all queries
    return encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask)


TWO_MASKS = Claim(
    id="two-masks",
    says="""
    `src_mask` (S, S) says which positions may not attend to which; `src_key_padding_mask` (N, S) hides padding.
    Both are bool, and both can be given together.
    """,
    verdict="true",
    because="""
    A key is hidden if one of the masks is True. With both masks `nn.TransformerEncoder` agrees with the reference, in
    train and eval mode, on every release (its argument for `src_mask` is called `mask`). The contents of padding
    do not reach the outputs at real tokens.
    """,
    recipe=(encode_ids,),
    proof=("test_both_masks_together", "test_padding_reaches_no_token"),
)


def test_both_masks_together(training):
    model, src = encoder().train(training), arbitrary(2, 5, 4)
    expected = reference_of(model)(array(src), np.triu(np.ones((5, 5), bool), 1), array(PADDING))
    near(encode_ids(model, src, IDS), expected)


def test_padding_reaches_no_token(training):
    model, src = encoder().train(training), arbitrary(2, 5, 4)
    other = torch.where(PADDING[..., None], torch.tensor(100.0, dtype=torch.float64), src)
    near(moved(encode_ids(model, src, IDS), encode_ids(model, other, IDS))[array(~PADDING)], 0)


def padding_of(ids: torch.Tensor, batch_first: bool, pad: int = 0) -> torch.Tensor:
    """The key_padding_mask (N, S) of ids (N, S), or of ids (S, N) without batch_first."""
    padding = ids == pad
    return padding if batch_first else padding.T


PADDING_SHAPE = Claim(
    id="padding-shape",
    says="Without `batch_first` everything is (S, N, ...), so the padding mask is (S, N) too.",
    verdict="false",
    because="""
    `key_padding_mask` is (N, S) in either layout. (S, N) is an error if N differs from S, and silently wrong if they
    are equal: with N = S = 2 and the second token of the first sample as padding, the transposed mask hides the
    first token of the second sample instead. The averages of (3, 5) and (7, 9) are then 4 and 9; right are 3 and 8.
    """,
    recipe=(padding_of,),
    proof=("test_a_transposed_padding_mask_is_an_error", "test_a_transposed_padding_mask_of_equal_sizes_is_wrong"),
)


def test_a_transposed_padding_mask_is_an_error(training):
    attention = averaging().train(training)
    attention.batch_first = False
    x = torch.zeros(5, 2, 2, dtype=torch.float64)
    with pytest.raises((AssertionError, RuntimeError), match=r"key_padd|Mask size"):
        attention(x, x, x, key_padding_mask=PADDING.T)
    attention(x, x, x, key_padding_mask=padding_of(IDS.T, batch_first=False))


def test_a_transposed_padding_mask_of_equal_sizes_is_wrong(training):
    attention = averaging().train(training)
    attention.batch_first = False
    x = torch.cat([tokens(3, 5), tokens(7, 9)]).transpose(0, 1)
    ids = torch.tensor([[4, 2], [PAD, 6]])  # (S, N)
    near(attention(x, x, x, key_padding_mask=padding_of(ids, batch_first=False))[0][0, :, 0], [3, 8])
    near(attention(x, x, x, key_padding_mask=ids == PAD)[0][0, :, 0], [4, 9])


def mean_of_tokens(encoded: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """encoded (N, S, E), padding (N, S) -> (N, E), the mean over the tokens that are not padding."""
    kept = encoded.masked_fill(padding[..., None], 0)  # not kept * encoded: padding may hold NaN
    return kept.sum(dim=1) / (~padding).sum(dim=1, keepdim=True)


PADDED_OUTPUTS = Claim(
    id="padded-outputs",
    says="A padding mask makes the outputs at padded positions zero, so that one can average over all outputs.",
    verdict="false",
    because="""
    The mask hides keys. A padded position is still a query, and its output is not zero: averaging 3 and 5, with 7 as
    padding, gives 4 at all three positions. There is one exception: `nn.TransformerEncoder` in eval without autograd
    packs the batch, and writes zeros at padded positions (1.13 and 2.0 cut off positions that are padding in every
    sample), if its layers have `batch_first=True`, `norm_first=False` and an even number of heads, and if it gets no
    other mask than padding on the right. `enable_nested_tensor=False` prevents this, unless a sample consists of
    padding alone. Leave padded positions out of the average yourself.
    """,
    recipe=(mean_of_tokens,),
    proof=(
        "test_a_padded_position_is_a_query",
        "test_in_eval_the_encoder_writes_zeros",
        "test_off_the_fast_path_it_writes_none",
        "test_what_is_not_packed_has_no_zeros",
        "test_shared_padding",
        "test_a_mean_over_tokens",
    ),
)


def test_a_padded_position_is_a_query(training):
    x, padding = tokens(3, 5, 7), torch.tensor([[False, False, True]])
    near(averaging().train(training)(x, x, x, key_padding_mask=padding)[0][0, :, 0], [4, 4, 4])


def test_in_eval_the_encoder_writes_zeros(training):
    output = encoder().train(training)(arbitrary(2, 5, 4), src_key_padding_mask=PADDING)
    assert bool((output[PADDING] == 0).all()) is not training
    unpacked, src = encoder(enable_nested_tensor=False).train(training), arbitrary(2, 5, 4)
    near(unpacked(src, src_key_padding_mask=PADDING), _encoded(unpacked, src))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("num_heads, batch_first", [(2, False), (3, True)], ids=["sequence_first", "odd_heads"])
def test_off_the_fast_path_it_writes_none(num_heads, batch_first, training):
    layer = nn.TransformerEncoderLayer(2 * num_heads, num_heads, 8, dropout=0, batch_first=batch_first)
    model, src = filled(nn.TransformerEncoder(layer, 2)).train(training), arbitrary(2, 5, 2 * num_heads)
    output = model(src if batch_first else src.transpose(0, 1), src_key_padding_mask=PADDING)
    near(output if batch_first else output.transpose(0, 1), _encoded(model, src))


NOT_PACKED = {
    "left": ({}, {"src_key_padding_mask": PADDING.flip(1)}),
    "both_masks": ({}, {"src_key_padding_mask": PADDING, "mask": torch.zeros(5, 5, dtype=torch.bool)}),
    "norm_first": ({"norm_first": True}, {"src_key_padding_mask": PADDING}),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("options, given", NOT_PACKED.values(), ids=NOT_PACKED)
def test_what_is_not_packed_has_no_zeros(options, given, training):
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True, **options)
    model = filled(nn.TransformerEncoder(layer, 2)).train(training)
    assert (model(arbitrary(2, 5, 4), **given)[given["src_key_padding_mask"]] != 0).all()


def _encoded(model, src):
    return reference_of(model)(array(src), None, array(PADDING))


def test_shared_padding(training):
    output = encoder().train(training)(arbitrary(1, 5, 4), src_key_padding_mask=PADDING[:1])
    assert output.shape == (1, 5 if training or since("2.1") else 3, 4)


def test_a_mean_over_tokens(training):
    model, src = encoder().train(training), arbitrary(2, 5, 4)
    expected = _encoded(model, src)
    encoded = model(src, src_key_padding_mask=PADDING)
    near(mean_of_tokens(encoded, PADDING), np.stack([expected[0, :3].mean(axis=0), expected[1].mean(axis=0)]))


def encoder_without_warning(layer: nn.TransformerEncoderLayer, num_layers: int) -> nn.TransformerEncoder:
    """A stack that never packs its batch, and says nothing about it."""
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


NESTED_WARNING = Claim(
    id="nested-tensor-warning",
    says='The warning "enable_nested_tensor is True, but self.use_nested_tensor is False" says that a mask is ignored.',
    verdict="false",
    because="""
    Since 2.1 `nn.TransformerEncoder` and `nn.Transformer` warn so when they are made with layers that cannot pack a
    padded batch: `batch_first=False`, which is the default, an odd number of heads, `norm_first=True`, or an
    activation other than ReLU and GELU. Masks mean what they mean otherwise, and the outputs at padded positions are
    not zeros. `enable_nested_tensor=False` silences the warning, and changes no number of such a stack.
    """,
    recipe=(encoder_without_warning,),
    proof=("test_stacks_that_cannot_pack_warn", "test_without_nested_tensors_nothing_changes"),
)

CANNOT_PACK = {
    "sequence_first": {},
    "odd_heads": {"batch_first": True, "nhead": 3},
    "norm_first": {"batch_first": True, "norm_first": True},
    "activation": {"batch_first": True, "activation": F.silu},
}
each_that_cannot_pack = pytest.mark.parametrize("options", CANNOT_PACK.values(), ids=CANNOT_PACK)


def _layer(nhead=2, **options):
    return nn.TransformerEncoderLayer(6, nhead, 8, dropout=0, **options)


def _warns(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    return any("enable_nested_tensor is True" in str(warning.message) for warning in caught)


@each_that_cannot_pack
def test_stacks_that_cannot_pack_warn(options):
    assert _warns(lambda: nn.TransformerEncoder(_layer(**options), 2)) == since("2.1")
    assert not _warns(lambda: encoder_without_warning(_layer(**options), 2))
    assert not _warns(lambda: nn.TransformerEncoder(_layer(batch_first=True), 2))
    assert _warns(lambda: nn.Transformer(4, 2, 1, 1, 8)) == since("2.1")


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@each_that_cannot_pack
def test_without_nested_tensors_nothing_changes(options, training):
    layer = filled(_layer(**options))
    warned, silent = (make(layer, 2).train(training) for make in (nn.TransformerEncoder, encoder_without_warning))
    src = arbitrary(*((2, 5, 6) if "batch_first" in options else (5, 2, 6)))
    near(warned(src, src_key_padding_mask=PADDING), array(silent(src, src_key_padding_mask=PADDING)))


def embed_and_attend(embedding: nn.Embedding, attention: nn.MultiheadAttention, ids: torch.Tensor) -> torch.Tensor:
    """padding_idx freezes a row of zeros in the embedding; the mask hides padding from the attention."""
    x = embedding(ids)
    return attention(x, x, x, key_padding_mask=ids == embedding.padding_idx, need_weights=False)[0]


PADDING_IDX = Claim(
    id="padding-idx",
    says="With `nn.Embedding(padding_idx=...)` padding is zeros, so that no padding mask is needed.",
    verdict="false",
    because="""
    A key of zeros has the score 0, and exp(0) is 1, not 0. An average over the tokens 3, 5 and a padding of zeros
    gives 8/3 instead of 4: a third of the weight goes to padding. In a model, the bias of the projection and the
    positional encoding add to the zeros, and padding becomes a key like any other.
    """,
    recipe=(embed_and_attend,),
    proof=("test_zeros_are_attended",),
)


def test_zeros_are_attended(training):
    embedding = nn.Embedding(3, 2, padding_idx=0).double()
    embedding.weight.data[1:] = tokens(3, 5)[0]
    attention, ids = averaging().train(training), torch.tensor([[1, 2, PAD]])
    x = embedding(ids)
    near(attention(x, x, x, need_weights=False)[0], 8 / 3)
    near(embed_and_attend(embedding, attention, ids), 4)


def encode_with_positions(
    encoder: nn.TransformerEncoder, embedded: torch.Tensor, positions: torch.Tensor, padding: torch.Tensor | None
) -> torch.Tensor:
    """embedded (N, S, E), positions (S, E), padding (N, S). Positions hide nothing; the mask hides padding."""
    return encoder(embedded + positions, src_key_padding_mask=padding)


POSITIONS_FOR_PADDING = Claim(
    id="positions-for-padding",
    says="With positional encodings the model recognises padding, and needs no padding mask.",
    verdict="false",
    because="""
    A positional encoding changes the contents of a key; it does not hide the key. Without the mask, other contents of
    the padding change the output of every real token of the sample (by more than 0.01; features are of size 1 after
    the norm). With the mask they change nothing.
    """,
    recipe=(encode_with_positions,),
    proof=("test_with_positions_alone_padding_leaks", "test_with_the_mask_it_does_not"),
)


POSITIONS = torch.sin(torch.arange(20.0, dtype=torch.float64)).reshape(5, 4)


def _leak(model, padding_mask):
    """The change of the first sample's outputs at real tokens if its padding has other contents."""
    embedded = arbitrary(2, 5, 4)
    other = torch.where(PADDING[..., None], -embedded, embedded)
    return moved(*(encode_with_positions(model, x, POSITIONS, padding_mask) for x in (embedded, other)))[0, :3]


def test_with_positions_alone_padding_leaks(training):
    assert (_leak(encoder().train(training), None) > 0.01).all()


def test_with_the_mask_it_does_not(training):
    model, embedded = encoder().train(training), arbitrary(2, 5, 4)
    near(_leak(model, PADDING), 0)
    output = encode_with_positions(model, embedded, POSITIONS, PADDING)
    near(array(output)[array(~PADDING)], _encoded(model, embedded + POSITIONS)[array(~PADDING)])


def causal_without_padding_mask(encoder: nn.TransformerEncoder, src: torch.Tensor) -> torch.Tensor:
    """src (N, S, E), padded on the right. Outputs are right at the positions before the padding."""
    S = src.shape[1]
    return encoder(src, mask=torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1))


CAUSAL_PADDING = Claim(
    id="causal-padding",
    says="A causal model needs no padding mask.",
    verdict="true if padding is on the right, and outputs at padded positions are ignored",
    because="""
    The causal mask already hides everything on the right of a token. Without a padding mask, the outputs at real tokens
    are the same as with both masks. With padding on the left, every token sees the padding.
    """,
    recipe=(causal_without_padding_mask,),
    proof=("test_right_padding_is_in_the_future", "test_left_padding_is_in_the_past"),
)


def test_right_padding_is_in_the_future(training):
    model, src = encoder().train(training), arbitrary(2, 5, 4)
    both = reference_of(model)(array(src), np.triu(np.ones((5, 5), bool), 1), array(PADDING))
    near(array(causal_without_padding_mask(model, src))[array(~PADDING)], both[array(~PADDING)])


def test_left_padding_is_in_the_past(training):
    model, src = encoder().train(training), arbitrary(1, 5, 4)
    other = with_another(src, slice(0, 2))  # positions 0 and 1 are padding
    assert (moved(*(causal_without_padding_mask(model, x) for x in (src, other)))[0, 2:] > 0.01).all()


def hide_padding(padding: torch.Tensor) -> torch.Tensor:
    """From padding (N, S) to SDPA's mask: (N, 1, 1, S), for all heads and all queries. Keys are the last axis."""
    return ~padding[:, None, None, :]


QUERY_ROWS = Claim(
    id="query-rows",
    says="A padding mask can be unsqueezed at either end: broadcasting does the rest.",
    verdict="false",
    because="""
    Keys are the last axis. `padding[:, None, :, None]` broadcasts, too, but it hides all keys from the padded
    *queries* and no key from the others. The average of 3, 5 and the padding 7 is then 5 at the real tokens, not 4.
    Padded queries are fully masked: their output is NaN before 2.5, and 0 since then. (1.13 has no
    `F.scaled_dot_product_attention`.)
    """,
    recipe=(hide_padding,),
    proof=("test_the_last_axis_is_the_keys",),
)


@needs_sdpa
def test_the_last_axis_is_the_keys():
    value, padding = tokens(3, 5, 7)[:, None], torch.tensor([[False, False, True]])
    query = key = torch.zeros_like(value)
    near(F.scaled_dot_product_attention(query, key, value, hide_padding(padding)), 4)
    rows = padding[:, None, :, None].repeat(1, 1, 1, 3)  # 2.1 to 2.4 read a last axis of 1 past its end
    rows = F.scaled_dot_product_attention(query, key, value, ~rows)
    near(rows[0, 0, :2], 5)
    near(rows[0, 0, 2], 0 if since("2.5") else np.nan)
