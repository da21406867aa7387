"""Claims about causal masks and causal hints."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import masks

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
    since,
    tokens,
    with_another,
)

pytestmark = [*internal_warnings]


def encode_causally(encoder: nn.TransformerEncoder, src: torch.Tensor) -> torch.Tensor:
    """src (N, S, E). The mask makes the attention causal; from 2.0 on, is_causal=True may be given with it."""
    return encoder(src, mask=nn.Transformer.generate_square_subsequent_mask(src.shape[1]).to(src))


IS_CAUSAL_ALONE = Claim(
    id="is-causal-alone",
    says="`is_causal=True` makes an attention causal.",
    verdict="true for `F.scaled_dot_product_attention`, false for the nn modules",
    because="""
    In the nn modules `is_causal=True` is a hint about a mask that must be given as well. Without a mask they raise in
    train mode ("Need attn_mask if specifying the is_causal hint"). In eval without autograd, `nn.MultiheadAttention`
    and `nn.TransformerEncoder` with `batch_first=True` and an even number of heads silently ignore the hint: every
    query sees all tokens 3, 5, 7 and gets 5. With `batch_first=False` they raise there, too, and so they do with an odd
    number of heads since 2.1. In 1.13 the modules have no `is_causal`. A mask from `generate_square_subsequent_mask(S)`
    is right on every release. Since 2.0 the hint may be added to the mask; it changes no number.
    """,
    recipe=(encode_causally,),
    proof=(
        "test_a_hint_alone_raises_in_training",
        "test_a_hint_alone_is_ignored_in_eval",
        "test_a_hint_alone_raises_in_eval_off_the_fast_path",
        "test_the_hint_of_sdpa_is_a_mask",
        "test_a_causal_mask_needs_no_hint",
    ),
)


NO_SUCH_ARGUMENT = (TypeError, "is_causal")


def stack() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
    return filled(nn.TransformerEncoder(layer, num_layers=2))


def test_a_hint_alone_raises_in_training():
    x = tokens(3, 5, 7)
    error, message = (RuntimeError, "(?i)need attn_mask") if since("2.0") else NO_SUCH_ARGUMENT
    with pytest.raises(error, match=message):
        averaging()(x, x, x, is_causal=True)
    with pytest.raises(error, match=message):
        stack()(arbitrary(1, 3, 4), is_causal=True)


@torch.no_grad()
def test_a_hint_alone_is_ignored_in_eval():
    x, attention, src, model = tokens(3, 5, 7), averaging().eval(), arbitrary(1, 3, 4), stack().eval()
    if since("2.0"):
        near(attention(x, x, x, is_causal=True)[0], 5)
        near(model(src, is_causal=True), reference_of(model)(array(src)))
    else:
        with pytest.raises(NO_SUCH_ARGUMENT[0], match=NO_SUCH_ARGUMENT[1]):
            attention(x, x, x, is_causal=True)


@torch.no_grad()
@pytest.mark.parametrize("num_heads, batch_first", [(2, False), (3, True)], ids=["sequence_first", "odd_heads"])
def test_a_hint_alone_raises_in_eval_off_the_fast_path(num_heads, batch_first):
    if num_heads % 2 and since("2.0") and not since("2.1"):
        pytest.skip("the fast path of 2.0 takes an odd number of heads")
    error, message = (RuntimeError, "(?i)need attn_mask") if since("2.0") else NO_SUCH_ARGUMENT
    x = arbitrary(3, 3, 2 * num_heads)
    attention = filled(nn.MultiheadAttention(2 * num_heads, num_heads, batch_first=batch_first)).eval()
    with pytest.raises(error, match=message):
        attention(x, x, x, is_causal=True)
    layer = nn.TransformerEncoderLayer(2 * num_heads, num_heads, 8, dropout=0, batch_first=batch_first)
    with pytest.raises(error, match=message):
        filled(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()(x, is_causal=True)


@needs_sdpa
def test_the_hint_of_sdpa_is_a_mask():
    value = tokens(3, 5, 7)
    query = key = torch.zeros_like(value)
    near(F.scaled_dot_product_attention(query, key, value, is_causal=True)[0, :, 0], [3, 4, 5])


def test_a_causal_mask_needs_no_hint(training):
    model, src = stack().train(training), arbitrary(2, 3, 4)
    expected = reference_of(model)(array(src), masks.causal(3, 3))
    near(encode_causally(model, src), expected)
    if since("2.0"):
        near(model(src, mask=torch.tensor(masks.causal(3, 3)), is_causal=True), expected)


def attend_with_cache(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """query (..., L, D) for the last L of S positions; key and value (..., S, D) are cached for all positions."""
    L, S = query.shape[-2], key.shape[-2]
    keep = torch.ones(L, S, dtype=torch.bool).tril(diagonal=S - L)
    return F.scaled_dot_product_attention(query, key, value, keep)


CAUSAL_CACHE = Claim(
    id="is-causal-with-cache",
    says="With a cache of keys and values, `is_causal=True` lets the new query see all earlier tokens.",
    verdict="false",
    because="""
    The causal mask of `F.scaled_dot_product_attention` is aligned at the *first* query and the *first* key, even if L
    differs from S. One new query with the cached tokens 3, 5, 7 sees only the first token and gets 3 instead of 5;
    two new queries get 3 and 4 instead of 4 and 5. Give a mask that is aligned at the last key; one query needs no
    mask. (1.13 has no `F.scaled_dot_product_attention`.)
    """,
    recipe=(attend_with_cache,),
    proof=("test_the_hint_is_aligned_at_the_first_key",),
)


@needs_sdpa
def test_the_hint_is_aligned_at_the_first_key():
    value = tokens(3, 5, 7)[:, None]
    key = torch.zeros_like(value)
    for L, hinted, right in [(1, [3], [5]), (2, [3, 4], [4, 5])]:
        query = key[..., :L, :]
        near(F.scaled_dot_product_attention(query, key, value, is_causal=True)[0, 0, :, 0], hinted)
        near(attend_with_cache(query, key, value)[0, 0, :, 0], right)


def decode(
    decoder: nn.TransformerDecoder, tgt: torch.Tensor, memory: torch.Tensor, padding: torch.Tensor | None = None
) -> torch.Tensor:
    """tgt_mask hides the future of the target, memory_key_padding_mask the padding (N, S) of the source."""
    T = tgt.shape[1]
    tgt_mask = torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1)
    return decoder(tgt, memory, tgt_mask=tgt_mask, memory_key_padding_mask=padding)


DECODER_IS_CAUSAL = Claim(
    id="decoder-is-causal",
    says="`nn.TransformerDecoder` and `nn.Transformer` hide the future of the target without a mask.",
    verdict="false",
    because="""
    Without `tgt_mask` the first position sees the last one. Another last token changes the output at each earlier
    position (by more than 0.005; features are of size 1). With the mask it changes no earlier output. A model that is
    trained without the mask learns to copy the next token.
    """,
    recipe=(decode,),
    proof=("test_a_decoder_without_mask_sees_the_future", "test_a_decoder_with_tgt_mask"),
)


def _decoder():
    return filled(nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, dropout=0, batch_first=True), 2))


def test_a_decoder_without_mask_sees_the_future(training):
    decoder, tgt, memory = _decoder().train(training), arbitrary(1, 3, 4), arbitrary(1, 5, 4)
    other = with_another(tgt, 2)
    assert (moved(decoder(tgt, memory), decoder(other, memory))[0, :2] > 0.005).all()
    near(moved(decode(decoder, tgt, memory), decode(decoder, other, memory))[0, :2], 0)


def test_a_decoder_with_tgt_mask(training):
    decoder, tgt, memory = _decoder().train(training), arbitrary(2, 3, 4), arbitrary(2, 5, 4)
    padding = torch.tensor([[False, False, False, True, True], [False] * 5])
    expected = reference_of(decoder)(
        array(tgt), array(memory), tgt_mask=masks.causal(3, 3), memory_key_padding_mask=array(padding)
    )
    near(decode(decoder, tgt, memory, padding), expected)


class DecoderOnly(nn.Module):
    """A language model: a stack of *encoder* layers with a causal mask, since there is no memory to attend to."""

    def __init__(
        self, vocabulary: int, E: int, num_heads: int, num_layers: int, longest: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(E, num_heads, 4 * E, dropout, batch_first=True)
        self.embedding, self.position = nn.Embedding(vocabulary, E), nn.Embedding(longest, E)
        self.stack = nn.TransformerEncoder(layer, num_layers)
        self.head = nn.Linear(E, vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (N, S) -> logits (N, S, vocabulary) of the next token"""
        S = ids.shape[1]
        x = self.embedding(ids) + self.position(torch.arange(S, device=ids.device))
        hidden = torch.triu(torch.ones(S, S, dtype=torch.bool, device=ids.device), diagonal=1)
        return self.head(self.stack(x, mask=hidden))


DECODER_ONLY = Claim(
    id="decoder-only",
    says="`nn.Transformer(decoder_only=True)` makes a GPT; or `nn.TransformerDecoder` does, with its input as memory.",
    verdict="false",
    because="""
    `nn.Transformer` has no such argument (TypeError). `nn.TransformerDecoder` attends to a memory in every layer: with
    its own input as memory, it sees the future there in spite of `tgt_mask`. A decoder-only model is a stack of
    encoder layers with a causal mask.
    """,
    recipe=(DecoderOnly,),
    proof=(
        "test_there_is_no_such_argument",
        "test_its_own_input_as_memory_shows_the_future",
        "test_a_decoder_only_model_is_causal",
    ),
)


@pytest.mark.parametrize("argument", ["decoder_only", "causal_mask", "is_causal"])
def test_there_is_no_such_argument(argument):
    with pytest.raises(TypeError, match=argument):
        nn.Transformer(4, 2, 1, 1, 8, **{argument: True})


def test_its_own_input_as_memory_shows_the_future(training):
    decoder, tgt = _decoder().train(training), arbitrary(1, 3, 4)
    other = with_another(tgt, 2)
    assert (moved(decode(decoder, tgt, tgt), decode(decoder, other, other))[0, :2] > 0.01).all()


def test_a_decoder_only_model_is_causal(training):
    model = filled(DecoderOnly(9, 4, 2, 2, longest=6, dropout=0)).train(training)
    ids = torch.tensor([[4, 2, 6, 1], [3, 1, 5, 2]])
    x = array(model.embedding.weight)[ids] + array(model.position.weight)[:4]
    encoded = reference_of(model.stack)(x, masks.causal(4, 4))
    near(model(ids), encoded @ array(model.head.weight).T + array(model.head.bias))
    for length in (1, 2, 3):
        near(model(ids[:, :length]), array(model(ids))[:, :length])  # no output depends on later tokens


def train_causally(model: nn.Transformer, src: torch.Tensor, tgt: torch.Tensor) -> torch.Tensor:
    """src (N, S, E), tgt (N, T, E). Causal masks are arguments of the call, made for its lengths."""
    S, T = src.shape[1], tgt.shape[1]
    src_mask = torch.triu(torch.ones(S, S, dtype=torch.bool), diagonal=1)
    tgt_mask = torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1)
    return model(src, tgt, src_mask=src_mask, tgt_mask=tgt_mask)


CAUSAL_OPTION = Claim(
    id="causal-option",
    says="`nn.Transformer(causal_mask=True)` makes the model causal.",
    verdict="false",
    because="""
    TypeError: the constructor has no argument for masks, neither `causal_mask` nor `is_causal`. Masks are arguments
    of the call. An encoder usually need not be causal: give `src_mask` only if it must be.
    """,
    recipe=(train_causally,),
    proof=("test_there_is_no_such_argument", "test_masks_are_arguments_of_the_call"),
)


def test_masks_are_arguments_of_the_call(training):
    model = filled(nn.Transformer(4, 2, 1, 1, 8, dropout=0, batch_first=True)).train(training)
    src, tgt = arbitrary(2, 5, 4), arbitrary(2, 3, 4)
    expected = reference_of(model)(
        array(src), array(tgt), src_mask=np.triu(np.ones((5, 5), bool), 1), tgt_mask=masks.causal(3, 3)
    )
    near(train_causally(model, src, tgt), expected)
