"""Claims about the mask arguments of nn.Transformer and its stacks."""

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


def transformer() -> nn.Transformer:
    return filled(nn.Transformer(4, 2, 1, 1, 8, dropout=0, batch_first=True))


def translate(
    model: nn.Transformer,
    src: torch.Tensor,
    tgt: torch.Tensor,
    src_padding: torch.Tensor | None,
    tgt_padding: torch.Tensor | None,
) -> torch.Tensor:
    """src_padding (N, S) is given twice, since the decoder attends to the source, too; tgt_padding is (N, T)."""
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
    `src_mask` (S, S) is for the encoder's self-attention, `tgt_mask` (T, T) for the decoder's self-attention,
    `memory_mask` (T, S) for the decoder's attention to the encoder's output. Each has its own
    `..._key_padding_mask`. Give the decoder's causal mask as `tgt_mask`. As `src_mask` it has the wrong length if S
    differs from T; otherwise it makes the encoder causal, and the decoder sees the future.
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
    The mask hides padding from the encoder alone. The decoder attends to the encoder's output at padded positions
    unless `memory_key_padding_mask` is given, too. An attention to the memory 3, 5 and a padding 7 averages to 5
    instead of 4. In `nn.Transformer` the output at every target position changes, in train and in eval mode. Cut off
    positions that are padding in every sample: 1.13 and 2.0 cut them off the encoder's output in eval without
    autograd, and then raise because of the length of the memory's mask.
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


def encode_with_masks(
    encoder: nn.TransformerEncoder,
    src: torch.Tensor,
    masks_of_layers: list[torch.Tensor | None],
    padding: torch.Tensor | None = None,
) -> torch.Tensor:
    """nn.TransformerEncoder with one mask, or None, for each layer."""
    for layer, mask in zip(encoder.layers, masks_of_layers, strict=True):
        src = layer(src, src_mask=mask, src_key_padding_mask=padding)
    return src if encoder.norm is None else encoder.norm(src)


LAYER_MASKS = Claim(
    id="masks-by-layer",
    says="`nn.TransformerEncoder` can apply a mask in chosen layers only.",
    verdict="false",
    because="""
    All layers get the same mask, and a list of masks raises. Call the layers one by one: the result agrees with the
    reference, in train and eval mode, on every release. (A single layer never packs the batch: outputs at padded
    positions are not zeros.)
    """,
    recipe=(encode_with_masks,),
    proof=("test_all_layers_get_the_same_mask", "test_a_list_of_masks_is_an_error", "test_a_mask_for_each_layer"),
)


def stack() -> nn.TransformerEncoder:
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
    """nn.Transformer with the parts that it lacks: embeddings, positions, masks and logits."""

    def __init__(self, vocabulary: int, d_model: int = 512, longest: int = 100, pad: int = 0) -> None:
        super().__init__()
        self.pad = pad
        self.embedding = nn.Embedding(vocabulary, d_model, padding_idx=pad)
        self.position = nn.Embedding(longest, d_model)
        self.transformer = nn.Transformer(d_model, batch_first=True)  # 8 heads, 6 + 6 layers
        self.head = nn.Linear(d_model, vocabulary)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, src: torch.Tensor, tgt: torch.Tensor) -> torch.Tensor:
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
    There are four errors, one after the other. First, the module does not embed ids: it takes (10, 5) for one
    unbatched sequence with 5 features ("the feature number of src and tgt must be equal to d_model"). Second, it
    reads the embedded source (10, 5, 512) as 10 positions of 5 samples, and `tgt` as 6 samples, because `batch_first`
    is False ("the batch number of src and tgt must be equal"). Third, with `batch_first=True` the padding mask must
    be (N, S) = (10, 5), not (1, 10). Fourth, the mask must be bool, not integer. The call then runs, but it sees the
    future and the padding unless `tgt_mask` and `memory_key_padding_mask` are given.
    """,
    recipe=(Translator,),
    proof=("test_the_errors_in_turn", "test_the_example_that_runs"),
)


def test_the_errors_in_turn(training):
    ids = torch.ones(10, 5, dtype=torch.long), torch.ones(10, 6, dtype=torch.long)
    embedded = torch.zeros(10, 5, 4), torch.zeros(10, 6, 4)
    model = nn.Transformer(4, 2, 1, 1, 8, batch_first=True).train(training)  # a small model raises the same errors
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


def target_masks(attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From a tokenizer's mask (N, T), 1 for a token: tgt_mask (T, T) and tgt_key_padding_mask (N, T), True hides."""
    T = attention_mask.shape[1]
    tgt_mask = torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1)
    return tgt_mask, attention_mask == 0


TOKENIZER_MASK_FOR_TARGET = Claim(
    id="tokenizer-mask-for-target",
    says="The `attention_mask` of a tokenizer (N, T) is the `tgt_mask` of a decoder.",
    verdict="false",
    because="""
    `tgt_mask` (T, T) says which positions see which, and is the same for all samples; the tokenizer's mask belongs into
    `tgt_key_padding_mask`, inverted. As integers it raises: "only bool and floating types of attn_mask are supported",
    in 1.13 "Only float, byte, and bool types are supported for attn_mask" (since 2.1 `nn.TransformerDecoder` says
    "value cannot be converted to type int64_t without overflow"). As bool it
    raises "The shape of the 2D attn_mask is torch.Size([2, 5]), but should be (5, 5)", in eval without autograd since
    2.0 "shape '[1, 1, 5, 5]' is invalid for input of size 10". With as many samples as positions it is accepted, and
    wrong. A causal `tgt_mask` is needed besides.
    """,
    recipe=(target_masks,),
    proof=(
        "test_a_tokenizer_mask_of_integers_is_refused",
        "test_a_tokenizer_mask_of_bools_is_refused",
        "test_a_square_tokenizer_mask_is_taken",
        "test_target_masks",
    ),
)

_TOKENIZED = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def decoder(num_layers: int = 1) -> nn.TransformerDecoder:
    return filled(nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, dropout=0, batch_first=True), num_layers))


def test_a_tokenizer_mask_of_integers_is_refused(training):
    model, tgt, memory = decoder().train(training), arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    in_1_13 = "Only float, byte, and bool types are supported for attn_mask"
    of_layer = "only bool and floating types of attn_mask are supported" if since("2.0") else in_1_13
    of_stack = "value cannot be converted to type int64_t without overflow" if since("2.1") else of_layer
    with pytest.raises(AssertionError, match=of_layer):
        model.layers[0](tgt, memory, tgt_mask=_TOKENIZED)
    with pytest.raises((AssertionError, RuntimeError), match=of_stack):
        model(tgt, memory, tgt_mask=_TOKENIZED)


def test_a_tokenizer_mask_of_bools_is_refused(training):
    model, tgt, memory = decoder().train(training), arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    is_native = not training and since("2.0")
    in_training = r"The shape of the 2D attn_mask is torch.Size\(\[2, 5\]\), but should be \(5, 5\)"
    message = r"shape '\[1, 1, 5, 5\]' is invalid for input of size 10" if is_native else in_training
    with pytest.raises(RuntimeError, match=message):
        model(tgt, memory, tgt_mask=_TOKENIZED.bool())


def test_a_square_tokenizer_mask_is_taken(training):
    model, tgt, memory = decoder().train(training), arbitrary(5, 5, 4), arbitrary(5, 3, 4)
    square = _TOKENIZED[[0, 0, 0, 0, 0]] == 0
    expected = reference_of(model)(array(tgt), array(memory), tgt_mask=array(square))
    near(model(tgt, memory, tgt_mask=square), expected)


def test_target_masks(training):
    model, tgt, memory = decoder(2).train(training), arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    tgt_mask, padding = target_masks(_TOKENIZED)
    expected = reference_of(model)(
        array(tgt), array(memory), tgt_mask=masks.causal(5, 5), tgt_key_padding_mask=array(_TOKENIZED) == 0
    )
    near(model(tgt, memory, tgt_mask=tgt_mask, tgt_key_padding_mask=padding), expected)
