"""Claims about which mask of nn.Transformer and its stacks goes where."""

import inspect

import pytest
import torch
from torch import nn

from reference import masks
from reference.attention import linear

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
    reference_of,
    since,
    tokens,
    with_another,
)

pytestmark = [*internal_warnings]

SRC_PADDING = torch.tensor([[False, False, False, True, True], [False] * 5])
TGT_PADDING = torch.tensor([[False, False, False], [False, False, True]])


def transformer():
    return filled(nn.Transformer(4, 2, 1, 1, 8, dropout=0, batch_first=True))


def translate(model, src, tgt, src_padding, tgt_padding):
    """Each mask in its place: the source's padding twice, since the decoder attends to the source too."""
    T = tgt.shape[1]
    return model(
        src,
        tgt,
        tgt_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1),
        src_key_padding_mask=src_padding,
        tgt_key_padding_mask=tgt_padding,
        memory_key_padding_mask=src_padding,
    )


MASKS_BY_NAME = Claim(
    id="src-mask-is-for-the-decoder",
    says="`src_mask` is the decoder's causal mask.",
    verdict="false",
    because="""
    `src_mask` (S, S) is the encoder's self-attention, `tgt_mask` (T, T) the decoder's, `memory_mask` (T, S) the
    decoder's attention to the encoder's output; each has a `..._key_padding_mask` beside it. A causal mask is
    `tgt_mask`; as `src_mask` it has the wrong length where S differs from T, and otherwise makes the encoder causal
    and leaves the decoder to see the future.
    """,
    recipe=(translate,),
    proof=(
        "test_three_masks_and_three_paddings",
        "test_each_mask_in_its_place",
        "test_src_mask_leaves_the_future_open",
    ),
)

MEMORY_PADDING = Claim(
    id="memory-padding",
    says="`src_key_padding_mask` hides the source's padding from the whole `nn.Transformer`.",
    verdict="false",
    because="""
    Only from its encoder. The decoder attends to the encoder's output at padded positions unless
    `memory_key_padding_mask` is given too. An attention to the memory 3, 5 and a padding 7 averages to 5 instead of
    4; in `nn.Transformer` the output at every target position changes, in train and in eval mode. Cut off positions
    that are padding in every sample: 1.13 and 2.0 do so to the encoder's output in eval without autograd, and then
    refuse the memory's mask for its length.
    """,
    recipe=(translate,),
    proof=(
        "test_memory_padding_is_a_mask_of_its_own",
        "test_each_mask_in_its_place",
        "test_padding_that_all_samples_share",
    ),
)


def test_three_masks_and_three_paddings():
    arguments = inspect.signature(nn.Transformer.forward).parameters
    sequences = ("src", "tgt", "memory")
    names = {f"{name}_mask" for name in sequences} | {f"{name}_key_padding_mask" for name in sequences}
    assert {name for name in arguments if name.endswith("_mask")} == names


def test_each_mask_in_its_place(training):
    model, src, tgt = transformer().train(training), arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    expected = reference_of(model)(
        array(src),
        array(tgt),
        tgt_mask=masks.causal(3, 3),
        src_key_padding_mask=array(SRC_PADDING),
        tgt_key_padding_mask=array(TGT_PADDING),
        memory_key_padding_mask=array(SRC_PADDING),
    )
    near(translate(model, src, tgt, SRC_PADDING, TGT_PADDING), expected)


def test_src_mask_leaves_the_future_open(training):
    model, src, tgt = transformer().train(training), arbitrary(1, 3, 4), arbitrary(1, 3, 4)
    causal = torch.tensor(masks.causal(3, 3))
    other = with_another(tgt, 2)
    assert (moved(model(src, tgt, src_mask=causal), model(src, other, src_mask=causal))[0, :2] > 0.01).all()
    near(moved(model(src, tgt, tgt_mask=causal), model(src, other, tgt_mask=causal))[0, :2], 0)


def test_memory_padding_is_a_mask_of_its_own(training):
    memory, tgt = tokens(3, 5, 7), tokens(0)
    near(averaging().train(training)(tgt, memory, memory)[0], 5)
    near(averaging()(tgt, memory, memory, key_padding_mask=torch.tensor([[False, False, True]]))[0], 4)
    model, src, tgt = transformer().train(training), arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    right = translate(model, src, tgt, SRC_PADDING, None)
    without = model(src, tgt, tgt_mask=torch.tensor(masks.causal(3, 3)), src_key_padding_mask=SRC_PADDING)
    assert (moved(right, without)[0] > 1e-4).all()
    near(moved(right, without)[1], 0)  # this sample has no padding


def test_padding_that_all_samples_share(training):
    model, src, tgt = transformer().train(training), arbitrary(1, 5, 4), arbitrary(1, 3, 4)
    if training or since("2.1"):
        assert translate(model, src, tgt, SRC_PADDING[:1], None).shape == tgt.shape
    else:
        with pytest.raises(AssertionError, match="expecting key_padding_mask shape"):
            translate(model, src, tgt, SRC_PADDING[:1], None)


def encode_with_masks(encoder, src, masks_of_layers, padding=None):
    """One mask, or None, for each layer; what nn.TransformerEncoder does otherwise."""
    for layer, mask in zip(encoder.layers, masks_of_layers, strict=True):
        src = layer(src, src_mask=mask, src_key_padding_mask=padding)
    return src if encoder.norm is None else encoder.norm(src)


LAYER_MASKS = Claim(
    id="masks-by-layer",
    says="`nn.TransformerEncoder` can apply a mask in chosen layers only.",
    verdict="false",
    because="""
    All layers get the same mask, and a list of masks is an error. Call the layers one by one: the result is the
    reference's, in train and eval mode, on every release. (A layer on its own never packs the batch, so that padded
    positions are not zeros either.)
    """,
    recipe=(encode_with_masks,),
    proof=("test_all_layers_get_the_same_mask", "test_a_list_of_masks_is_an_error", "test_a_mask_for_each_layer"),
)


def stack():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
    return filled(nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(4)))


def test_all_layers_get_the_same_mask(training):
    model, src = stack().train(training), arbitrary(2, 3, 4)
    near(model(src, mask=torch.tensor(masks.causal(3, 3))), reference_of(model)(array(src), masks.causal(3, 3)))


def test_a_list_of_masks_is_an_error(training):
    with pytest.raises((AttributeError, RuntimeError, TypeError)):
        stack().train(training)(arbitrary(2, 3, 4), mask=[torch.tensor(masks.causal(3, 3)), None])


def test_a_mask_for_each_layer(training):
    model, src, reference = stack().train(training), arbitrary(2, 3, 4), reference_of(stack())
    first, second = reference.layers
    padding = array(TGT_PADDING)
    expected = reference.norm(second(first(array(src), None, padding), masks.causal(3, 3), padding))
    near(encode_with_masks(model, src, [None, torch.tensor(masks.causal(3, 3))], TGT_PADDING), expected)


class Translator(nn.Module):
    """Token ids in, logits out: what nn.Transformer leaves to its user."""

    def __init__(self, vocabulary, d_model=512, longest=100, pad=0):
        super().__init__()
        self.pad = pad
        self.embedding = nn.Embedding(vocabulary, d_model, padding_idx=pad)
        self.position = nn.Embedding(longest, d_model)
        self.transformer = nn.Transformer(d_model, batch_first=True)  # 8 heads, 6 + 6 layers
        self.head = nn.Linear(d_model, vocabulary)

    def embed(self, ids):
        return self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, src, tgt):
        """src (N, S) and tgt (N, T), integers -> (N, T, vocabulary)"""
        T = tgt.shape[1]
        future = torch.triu(torch.ones(T, T, dtype=torch.bool, device=tgt.device), diagonal=1)
        padding = src == self.pad  # (N, S)
        decoded = self.transformer(
            self.embed(src),
            self.embed(tgt),
            tgt_mask=future,
            src_key_padding_mask=padding,
            tgt_key_padding_mask=tgt == self.pad,
            memory_key_padding_mask=padding,
        )
        return self.head(decoded)


FULL_EXAMPLE = Claim(
    id="full-example",
    says="`nn.Transformer(d_model=512)` runs on token ids `src` (10, 5) and `tgt` (10, 6) with a padding mask (1, 10).",
    verdict="false",
    because="""
    Four errors, one after the other. Ids are not embedded: (10, 5) is taken for one unbatched sequence of 5
    features (the feature number of src and tgt must be equal to d_model). Embedded, (10, 5, 512) is read as 10
    positions of 5 samples, and `tgt` as 6 samples, since `batch_first` is False (the batch number of src and tgt
    must be equal). With `batch_first=True` the padding mask must be (N, S) = (10, 5), not (1, 10). And it must be
    bool, not integer. What then runs still sees the future and the padding, unless `tgt_mask` and
    `memory_key_padding_mask` are given.
    """,
    recipe=(Translator,),
    proof=("test_the_errors_in_turn", "test_the_example_that_runs"),
)


def test_the_errors_in_turn(training):
    ids = torch.ones(10, 5, dtype=torch.long), torch.ones(10, 6, dtype=torch.long)
    embedded = torch.zeros(10, 5, 4), torch.zeros(10, 6, 4)
    model = nn.Transformer(4, 2, 1, 1, 8, batch_first=True).train(training)  # a small one fails in the same way
    with pytest.raises(RuntimeError, match="feature number of src and tgt must be equal to d_model"):
        model(*ids)
    model.batch_first = False
    with pytest.raises(RuntimeError, match="batch number of src and tgt must be equal"):
        model(*embedded)
    model.batch_first = True
    with pytest.raises((AssertionError, RuntimeError), match=r"key_padd|Mask size"):
        model(*embedded, src_key_padding_mask=torch.zeros(1, 10, dtype=torch.bool))
    with pytest.raises(AssertionError, match=r"only bool and floating types of .*key_padding_mask are supported"):
        model(*embedded, src_key_padding_mask=torch.zeros(10, 5, dtype=torch.long))
    assert model(*embedded, src_key_padding_mask=torch.zeros(10, 5, dtype=torch.bool)).shape == (10, 6, 4)


def test_the_example_that_runs():
    torch.manual_seed(0)
    model = Translator(vocabulary=20).eval()
    src, tgt = torch.randint(1, 20, (10, 5)), torch.randint(1, 20, (10, 6))
    src[0, 3:], tgt[1, 4:] = PAD, PAD
    with torch.no_grad():
        output = model(src, tgt)
    assert output.shape == (10, 6, 20)
    decoded = reference_of(model.transformer)(
        array(model.embed(src)),
        array(model.embed(tgt)),
        tgt_mask=masks.causal(6, 6),
        src_key_padding_mask=array(src) == PAD,
        tgt_key_padding_mask=array(tgt) == PAD,
        memory_key_padding_mask=array(src) == PAD,
    )
    near(output, linear(decoded, array(model.head.weight), array(model.head.bias)), error=1e-4)
