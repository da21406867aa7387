"""Claims about samples of padding alone, NaN inside padding, and padding in a cache."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .claim import Claim
from .comparing import arbitrary, array, averaging, filled, internal_warnings, near, needs_sdpa, since

pytestmark = [*internal_warnings]

PADDING = torch.tensor([[False, False, True], [True, True, True]])  # the second sample is padding alone
NAN, ZERO, FINITE = "NaN", "0", "finite"

# (call, setting, outcome before 2.5, outcome since 2.5) of the sample that is padding alone.
OUTCOMES = (
    ("`F.scaled_dot_product_attention`", "always", NAN, ZERO),
    ("`nn.MultiheadAttention`", "weights are returned (the default)", NAN, NAN),
    ("`nn.MultiheadAttention`", "`need_weights=False`, with autograd", NAN, FINITE),
    ("`nn.MultiheadAttention`", "`need_weights=False`, self-attention in eval without autograd", NAN, NAN),
    ("`nn.TransformerEncoderLayer`", "with autograd", NAN, FINITE),
    ("`nn.TransformerEncoderLayer`", "eval without autograd", NAN, NAN),
    ("`nn.TransformerEncoder`", "with autograd", NAN, FINITE),
    ("`nn.TransformerEncoder`", "eval without autograd, another sample has tokens, padding on the right", ZERO, ZERO),
    ("`nn.TransformerEncoder`", "the same, `enable_nested_tensor=False`", NAN, NAN),
    ("`nn.TransformerDecoder`, memory", "train or eval", NAN, FINITE),
    ("`nn.TransformerDecoder`, target", "with autograd", NAN, FINITE),
    ("`nn.TransformerDecoder`, target", "eval without autograd", NAN, NAN),
)


def encode_some(encoder: nn.TransformerEncoder, src: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """src (N, S, E), padding (N, S), True at padding. A sample of padding alone gets zeros, in train and in eval."""
    has_tokens = ~padding.all(dim=1, keepdim=True)
    first = torch.arange(padding.shape[1]) == 0
    padding = padding & (has_tokens | ~first)  # such a sample may see its first position
    encoded = encoder(src, src_key_padding_mask=padding)
    return encoded.masked_fill(~has_tokens[..., None], 0)  # not has_tokens * encoded


ALL_PADDED_SAMPLES = Claim(
    id="all-padded-samples",
    says="A sample that is padding alone gives NaN.",
    verdict="true or false by module, setting and release",
    because="""
    The softmax over no keys is 0/0. The table has the outcome at such a sample; tokens of other samples are not
    touched. "Finite" is the bias of the output projection, or what the layer makes of it. The rows of eval without
    autograd hold for `batch_first=True` and an even number of heads; other modules give there what they give with
    autograd. If all samples are padding, `nn.TransformerEncoder` in eval without autograd raises since 2.2
    (`to_padded_tensor: at least one constituent tensor should have non-zero numel`). NaN in one output reaches all
    parameters in the backward pass. The recipe lets such a sample see its first position and writes zeros afterwards:
    it is finite on every release, in every setting.
    """,
    recipe=(encode_some,),
    proof=(
        "test_the_outcome_is_that_of_the_table",
        "test_off_the_fast_path_eval_gives_what_training_gives",
        "test_if_all_samples_are_padding_an_encoder_may_raise",
        "test_with_the_first_position_visible_nothing_is_nan",
    ),
    table=(("call", "setting", "before 2.5", "since 2.5"), *OUTCOMES),
)


def _layers(kind, num_heads=2, batch_first=True, **options):
    layer = getattr(nn, f"{kind}Layer")(2 * num_heads, num_heads, 8, dropout=0, batch_first=batch_first)
    return filled(getattr(nn, kind)(layer, 2, **options))


def _called(call, setting):
    """The output of the call of this row of the table, for PADDING."""
    x, is_recorded = arbitrary(2, 3, 4), "eval without autograd" not in setting and "the same" not in setting
    name = re.findall(r"\w+", call)[-1 if "," not in call else 1]
    if call.startswith("`F."):
        return F.scaled_dot_product_attention(x, x, x, ~PADDING[:, None, :].expand(2, 3, 3))
    with torch.set_grad_enabled(is_recorded):
        if name == "MultiheadAttention":
            module = filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(is_recorded)
            return module(x, x, x, key_padding_mask=PADDING, need_weights="need_weights=False" not in setting)[0]
        if name == "TransformerDecoder":
            module = _layers(name).train(is_recorded)
            return module(x, x, **{f"{'memory' if 'memory' in call else 'tgt'}_key_padding_mask": PADDING})
        if name == "TransformerEncoderLayer":
            module = _layers("TransformerEncoder").layers[0].train(is_recorded)
        else:
            options = {"enable_nested_tensor": False} if "enable_nested_tensor" in setting else {}
            module = _layers(name, **options).train(is_recorded)
        return module(x, src_key_padding_mask=PADDING)


@pytest.mark.parametrize("call, setting, before, after", OUTCOMES)
def test_the_outcome_is_that_of_the_table(call, setting, before, after):
    if call.startswith("`F.") and not since("2.0"):
        pytest.skip("torch 1.13 has no F.scaled_dot_product_attention")
    tokens, alone = _called(call, setting)
    assert not tokens[:2].isnan().any()
    outcome = NAN if alone.isnan().any() else ZERO if (alone == 0).all() else FINITE
    assert outcome == (after if since("2.5") else before)


@pytest.mark.parametrize("num_heads, batch_first", [(2, False), (3, True)], ids=["sequence_first", "odd_heads"])
@pytest.mark.parametrize("kind", ["TransformerEncoderLayer", "TransformerEncoder", "TransformerDecoder"])
@torch.no_grad()
def test_off_the_fast_path_eval_gives_what_training_gives(kind, num_heads, batch_first):
    options = {} if "Decoder" in kind else {"enable_nested_tensor": False}  # else since 2.1 the constructor warns
    module = _layers(kind.replace("Layer", ""), num_heads, batch_first, **options)
    module = module.layers[0] if kind.endswith("Layer") else module
    x = arbitrary(2, 3, 2 * num_heads)
    given = (x if batch_first else x.transpose(0, 1),) * (2 if "Decoder" in kind else 1)
    padding = {"tgt_key_padding_mask" if "Decoder" in kind else "src_key_padding_mask": PADDING}
    trained, output = (module.train(training)(*given, **padding) for training in (True, False))
    near(output, array(trained))
    alone = output[1] if batch_first else output[:, 1]
    assert bool(alone.isnan().any()) is not since("2.5")


def test_if_all_samples_are_padding_an_encoder_may_raise():
    model, src = _layers("TransformerEncoder").eval(), arbitrary(2, 3, 4)
    with torch.no_grad():
        if since("2.2"):
            with pytest.raises(RuntimeError, match="at least one constituent tensor should have non-zero numel"):
                model(src, src_key_padding_mask=torch.ones_like(PADDING))
        else:
            assert not model(src, src_key_padding_mask=torch.ones_like(PADDING)).isnan().any()


@pytest.mark.parametrize("padding", [PADDING, torch.ones_like(PADDING)], ids=["one", "all"])
def test_with_the_first_position_visible_nothing_is_nan(padding, training):
    model, src = _layers("TransformerEncoder").train(training), arbitrary(2, 3, 4)
    output = encode_some(model, src, padding)
    if training:
        output.sum().backward()
        assert not any(parameter.grad.isnan().any() for parameter in model.parameters())
    assert not output.isnan().any()
    near(output[1], 0)


def without_content(x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """x (N, S, E) with zeros at padding (N, S): what is hidden must be finite, since 0 * NaN is NaN."""
    return x.masked_fill(padding[..., None], 0)  # x * ~padding[..., None] would keep NaN


NAN_IN_PADDING = Claim(
    id="nan-in-padding",
    says="Padding may hold anything, NaN or uninitialised memory too, since the mask hides it.",
    verdict="false",
    because="""
    A hidden key has the weight 0, but 0 · NaN is NaN, and so is 0 · inf. An average over 3, 5 and padding of NaN is
    NaN at every query, with `nn.MultiheadAttention` and with `F.scaled_dot_product_attention`, on every release.
    Finite garbage is harmless: with 1e30 in the padding the average is 4. Write zeros into padding before the first
    layer (`masked_fill`, not a product). The [catalogue](edge-cases.md#hidden-nan-sdpa) has the exceptions by path.
    """,
    recipe=(without_content,),
    proof=("test_nan_in_padding_reaches_every_query", "test_nan_in_padding_reaches_sdpa"),
)

_HIDDEN = torch.tensor([[False, False, True]])


def _sequence(content):
    return torch.tensor([[[3.0, 3.0], [5.0, 5.0], [content, content]]], dtype=torch.float64)


@pytest.mark.parametrize("content, mean", [(float("nan"), float("nan")), (float("inf"), float("nan")), (1e30, 4)])
def test_nan_in_padding_reaches_every_query(content, mean, training):
    attention, x = averaging().train(training), _sequence(content)
    attention.training = training
    near(attention(x, x, x, key_padding_mask=_HIDDEN)[0][:, :2], mean)
    zeroed = without_content(x, _HIDDEN)
    near(attention(zeroed, zeroed, zeroed, key_padding_mask=_HIDDEN)[0], 4)


@needs_sdpa
@pytest.mark.parametrize("content, mean", [(float("nan"), float("nan")), (float("inf"), float("nan")), (1e30, 4)])
def test_nan_in_padding_reaches_sdpa(content, mean):
    value = _sequence(content)
    near(F.scaled_dot_product_attention(0 * _sequence(1), 0 * _sequence(1), value, ~_HIDDEN[:, None]), mean)
    near(
        F.scaled_dot_product_attention(0 * value, 0 * _sequence(1), without_content(value, _HIDDEN), ~_HIDDEN[:, None])[
            :, :2
        ],
        4,
    )


def attend_with_padded_cache(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, padding: torch.Tensor
) -> torch.Tensor:
    """query (N, H, L, D) for the last L of S positions; key and value (N, H, S, D); padding (N, S), of all positions.

    True hides in `padding`. A query of the left padding sees itself alone.
    """
    L, S = query.shape[-2], key.shape[-2]
    earlier = torch.ones(L, S, dtype=torch.bool).tril(diagonal=S - L)
    itself = torch.eye(S, dtype=torch.bool)[S - L :]
    keep = earlier & ~padding[:, None, None, :] | itself
    return F.scaled_dot_product_attention(query, key, value, keep)


LEFT_PADDING_WITH_CACHE = Claim(
    id="left-padding-with-cache",
    says="With a KV cache the new query may see all cached keys, so that generation needs no mask.",
    verdict="true without padding, false for a batch that is padded on the left",
    because="""
    The padding of the prompt lies in the cache, and stays there: each step must hide it again, with a mask over all S
    cached positions, not over the L new ones. Take the prompts (3, 5) and (padding 9, 5), and 7 as the next token: the
    averages of what the new query sees are 5 and 6; without the mask the second is 7. `is_causal=True` is wrong here,
    too (see `is-causal-with-cache`). Positions shift as well: count them from the first token, not from the padding.
    (1.13 has no `F.scaled_dot_product_attention`.)
    """,
    recipe=(attend_with_padded_cache,),
    proof=("test_a_padded_cache_needs_a_mask", "test_steps_with_a_cache_are_rows_of_the_whole"),
)


@needs_sdpa
def test_a_padded_cache_needs_a_mask():
    cache = torch.tensor([[3.0, 5.0, 7.0], [9.0, 5.0, 7.0]], dtype=torch.float64)[:, None, :, None]
    padding = torch.tensor([[False, False, False], [True, False, False]])
    query, key = torch.zeros_like(cache[:, :, :1]), torch.zeros_like(cache)
    near(F.scaled_dot_product_attention(query, key, cache).flatten(), [5, 7])
    near(attend_with_padded_cache(query, key, cache, padding).flatten(), [5, 6])


@needs_sdpa
def test_steps_with_a_cache_are_rows_of_the_whole():
    x, padding = arbitrary(2, 2, 5, 4), torch.arange(5) < torch.tensor([[0], [2]])
    whole = attend_with_padded_cache(x, x, x, padding)
    assert not whole.isnan().any()
    for step in range(3, 5):
        cached, seen = x[:, :, : step + 1], padding[:, : step + 1]
        near(attend_with_padded_cache(x[:, :, step : step + 1], cached, cached, seen), whole[:, :, step : step + 1])
