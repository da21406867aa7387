"""What releases do instead of what they should, as changes to a computation of the reference.

Kernels have the signature of reference.attention.attend. The reference leaves hidden keys out; the kernels here
multiply by a weight of 0 as torch does, which is the same unless something is NaN or infinite.
"""

from dataclasses import dataclass, replace

import numpy as np

from reference import masks as meaning
from reference.attention import MultiHeadAttention, added, attend, scaled_dot_product_attention
from reference.transformer import DecoderLayer, Encoder, EncoderLayer
from reference.transformer import Transformer as WholeTransformer

from . import dispatch

# ---- kernels -------------------------------------------------------------------------------------------------------


def multiplying(query, key, value, bias, scale):
    """Plain arithmetic: NaN spreads through hidden keys, and a row that sees no key is 0 / 0."""
    scores = scale * (query @ np.swapaxes(key, -1, -2))
    if bias is not None:
        scores = np.where(meaning.hidden(bias) & ~np.isnan(scores), -np.inf, added(scores, bias))
    powers = np.exp(scores - _highest(scores))
    weights = powers / powers.sum(axis=-1, keepdims=True)
    return weights @ value, weights


def multiplying_safely(query, key, value, bias, scale):
    """Plain arithmetic, but a row whose scores are all -inf has zero weights."""
    context, weights = multiplying(query, key, value, bias, scale)
    if bias is None:
        return context, weights
    unscored = np.isnan(query).any(axis=-1, keepdims=True) | np.isnan(key).any(axis=(-2, -1))[..., None, None]
    empty = np.broadcast_to(meaning.hidden(bias), weights.shape).all(axis=-1, keepdims=True) & ~unscored
    return np.where(empty, 0, context), np.where(empty, 0, weights)


@dataclass(frozen=True)
class Arithmetic:
    """Scores, softmax and their product with values as IEEE 754 has them: 0 * NaN, 0 * inf and inf - inf are NaN.

    fills: whether a hidden key gets the score -inf, in place of having -inf added to what may be NaN. is_safe: whether
    a row of scores that are all -inf has zero weights. skips: whether that is done by the CPU's fused kernel under
    is_causal=True, which never looks at keys past the last block that it computes.
    """

    fills: bool = False
    is_safe: bool = False
    skips: bool = False

    def __call__(self, query, key, value, bias, scale):
        scores = scale * (query @ np.swapaxes(key, -1, -2))
        if bias is not None:
            scores = np.where(meaning.hidden(bias) & self.fills, -np.inf, scores + bias)
        powers = np.exp(scores - _highest(scores))
        weights = powers / powers.sum(axis=-1, keepdims=True)
        if self.is_safe:
            weights = np.where(np.isneginf(scores).all(axis=-1, keepdims=True), 0, weights)
        if not self.skips:
            return weights @ value, weights
        L, S = scores.shape[-2:]
        computed = np.arange(S) < computed_keys(L, S)[:, None]
        spoiled = (computed[:, :, None] & ~np.isfinite(value)[..., None, :, :]).any(axis=-2)
        return np.where(spoiled, np.nan, weights @ np.where(np.isfinite(value), value, 0)), weights


def with_arithmetic(computation, arithmetic, blocks):
    """The computation with this Arithmetic wherever kernels of these blocks multiply plainly."""

    def kernel(former):
        if former in (attend, multiplying, multiplying_safely):
            return arithmetic
        inner = getattr(former, "kernel", None)
        return former if inner is None else replace(former, kernel=kernel(inner))

    return with_kernel(computation, kernel, blocks) if blocks else computation


def _finite(bias):
    return np.where(meaning.hidden(bias), 0, bias)


def _highest(scores):
    return np.max(scores.real, axis=-1, keepdims=True, initial=-np.inf)


@dataclass(frozen=True)
class HidingNonzero:
    """A float mask read as a bool one: whatever is not 0 hides."""

    kernel: object = multiplying

    def __call__(self, query, key, value, bias, scale):
        hides = None if bias is None else np.where(bias.real != 0, -np.inf, 0)
        return self.kernel(query, key, value, hides, scale)


def overflowing(query, key, value, bias, scale):
    """Scores are added to the mask in float16: what is below its least number is -inf, and may leave a row nothing."""
    with np.errstate(over="ignore"):
        scaled, keys = (np.asarray(array.real, "float16").astype("float32") for array in (scale * query, key))
        sums = scaled @ np.swapaxes(keys, -1, -2) + np.asarray(_finite(bias).real)
        overflows = np.isneginf(np.asarray(sums, "float16"))
    return multiplying(query, key, value, np.where(overflows, -np.inf, bias), scale)


@dataclass(frozen=True)
class RoundingTheNormaliser:
    """A backward pass that recovers softmax as exp(score - lse) from lse, a row's log-sum-exp, rounded to `dtype`.

    Beside a score like finfo.min the logarithm is rounded away, and each weight counts as exp(0).
    """

    kernel: object
    dtype: str

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        if bias is None or not np.iscomplexobj(context):
            return context, weights
        scores = added(scale * (query.real @ np.swapaxes(key.real, -1, -2)), bias.real)
        scores = np.where(meaning.hidden(bias), -np.inf, scores)
        top = _highest(scores)
        logarithm = np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))
        lost = logarithm - ((top + logarithm).astype(self.dtype) - top)
        return context.real + 1j * context.imag * np.where(np.isfinite(lost), np.exp(lost), 1), weights


@dataclass(frozen=True)
class MaskingHalfOfAVector:
    """The CPU's fused kernel with a float32 mask beside float64: it steps by a vector of float32, of `lanes` numbers.

    In each step it masks and scales a vector of float64, which holds half as many scores; the others stay the plain
    products. The backward pass scales these products, but does not mask them either.
    """

    kernel: object
    lanes: int

    def __call__(self, query, key, value, bias, scale):
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        products, S = query @ np.swapaxes(key, -1, -2), key.shape[-2]
        at = np.arange(S)
        is_left = (at < S - S % self.lanes) & (at % self.lanes >= self.lanes // 2)
        masked = np.where(meaning.hidden(bias), -np.inf, (scale * products).real + _finite(bias).real)
        scores = np.where(is_left, products.real, masked)
        scores_again = np.where(is_left, scale * products.real, masked)
        top = _highest(scores)
        powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
        total = powers.sum(axis=-1, keepdims=True)
        weights = powers / np.where(total == 0, 1, total)
        context = weights @ value.real
        if not np.iscomplexobj(products) and not np.iscomplexobj(value):
            return context, weights
        normaliser = np.where(np.isfinite(top), top, 0) + np.log(np.where(total == 0, 1, total))
        recovered = np.exp(scores_again - normaliser)
        slopes = recovered * (scale * products).imag
        slope = recovered @ value.imag + slopes @ value.real - slopes.sum(axis=-1, keepdims=True) * context
        return context + 1j * slope, weights


@dataclass(frozen=True)
class MaskingBeforeScaling:
    """The CPU's fused kernel under is_causal=True: hidden scores are -inf before they are scaled.

    By a negative scale -inf becomes inf, and the row NaN. Keys are computed in blocks of 512, up to the block that
    holds the last key that any query of a block of queries may see; further ones are never looked at. Where keys fill
    whole vectors of `lanes`, of float32, the largest score is inf and no NaN, so that on the way back weights are 0;
    never, if None. forgets: whether such a row of NaN is then taken for one that sees no key.
    """

    kernel: object
    lanes: int | None = None
    forgets: bool = False

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        L, S = query.shape[-2], key.shape[-2]
        fills = (_last_block(L, S) % (self.lanes or np.inf) == 0)[:, None]
        is_turned = (computed_keys(L, S) > np.arange(L) + 1)[:, None]
        what_remains = context * np.where(fills & self.forgets, 0.0, np.nan)
        return np.where(is_turned, what_remains, context), np.where(
            is_turned, np.where(fills & (scale < 0), 0, np.nan), weights
        )


def computed_keys(L, S):
    """(L,): how many keys the CPU's fused kernel computes for each query under is_causal=True."""
    block = 256 if L >= 768 else 64 if L >= 192 else 32
    visible = np.minimum((np.arange(L) // block + 1) * block, S)
    return np.minimum(-(-visible // 512) * 512, S)


def _last_block(L, S):
    """(L,): how many keys the last block of these has."""
    return (computed_keys(L, S) - 1) % 512 + 1


@dataclass(frozen=True)
class LostInTheFirstBlock:
    """A softmax over blocks of 512 keys that is NaN for good where a row sees nothing in the first."""

    kernel: object

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_lost = hides_first_block(bias)[..., None]
        return np.where(is_lost, context * np.nan, context), np.where(is_lost, np.nan, weights)


@dataclass(frozen=True)
class ForgettingNaN:
    """A softmax that takes a row of NaN for one that sees no key; beside inf where whole vectors of `lanes` hold it."""

    kernel: object
    lanes: int

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        lost = np.isnan(query).any(axis=-1)
        if scale < 0 and bias is not None:  # what a causal mask hides is inf then
            is_beside_inf = meaning.hidden(bias).any(axis=-1)
            lost &= ~is_beside_inf | (_last_block(query.shape[-2], key.shape[-2]) % self.lanes == 0)
        return np.where(lost[..., None], 0.0, context), weights


@dataclass(frozen=True)
class IgnoringTheQuery:
    """Scores of 0, whatever the query holds."""

    kernel: object

    def __call__(self, query, key, value, bias, scale):
        return self.kernel(np.zeros_like(query), key, value, bias, scale)


@dataclass(frozen=True)
class SummingTheQuery:
    """The shortcut for no keys adds 0 times the sum of the whole query, for autograd to see it: NaN if it overflows."""

    kernel: object
    limit: float

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_finite = np.abs(np.sum(query.real, dtype="float64")) <= self.limit
        return (context if is_finite else context * np.nan), weights


def hides_first_block(bias):
    """Where a row of the bias hides the first 512 keys."""
    return meaning.hidden(bias[..., :512]).all(axis=-1)


def hiding_by_a_number(query, key, value, bias, scale):
    """Hidden keys are those with the least number of float16 in place of -inf, added to scores in float32."""
    scores = scale * (query.real @ np.swapaxes(key, -1, -2).real)
    added = np.where(meaning.hidden(bias), -65504.0, bias.real)
    sums = (np.asarray(scores, "float32") + np.asarray(added, "float32")).astype("float64")
    rounded = sums - np.asarray(scores, "float64")
    return multiplying(query, key, value, rounded - rounded.max(axis=-1, keepdims=True, initial=-np.inf), scale)


def multiplying_by_log2e(query, key, value, bias, scale):
    """Powers of 2 take the place of those of e: what overflows where it is multiplied by log2(e) hides."""
    overflows = bias.real < -np.finfo("float32").max / np.log2(np.e)
    return multiplying_safely(query, key, value, np.where(overflows, -np.inf, bias), scale)


def nowhere_a_number(query, key, value, bias, scale):
    """Everything is NaN."""
    context, weights = multiplying(query, key, value, bias, scale)
    return context * np.nan, weights


def causal_over_all_keys(query, key, value, bias, scale):
    """The mask is forgotten: a query sees the keys up to its own position, whatever was appended to them."""
    return attend(query, key, value, meaning.as_bias(meaning.causal(query.shape[-2], key.shape[-2]), "float64"), scale)


# ---- changes to a computation --------------------------------------------------------------------------------------


def with_kernel(computation, kernel, blocks):
    """The computation with kernel(former kernel) in the attention blocks of these names (see dispatch.py)."""
    if computation.function is scaled_dot_product_attention:
        former = computation.arguments.get("kernel", attend)
        return replace(computation, arguments={**computation.arguments, "kernel": kernel(former)})
    return with_attention(computation, lambda attention: replace(attention, kernel=kernel(attention.kernel)), blocks)


def with_attention(computation, change, blocks):
    """The computation of a module with change(attention) in these blocks."""
    return replace(computation, function=_with_attention(computation.function, change, blocks))


def _with_attention(node, change, blocks, block="self", part=""):
    if isinstance(node, MultiHeadAttention):
        return change(node) if {block, block + part} & set(blocks) else node
    if isinstance(node, tuple):
        *early, last = node
        early = [_with_attention(layer, change, blocks, part=".early") for layer in early]
        return (*early, _with_attention(last, change, blocks, part=".last"))
    children = {
        "encoder": "src",
        "decoder": "tgt",
        "layers": "src" if isinstance(node, Encoder) else "tgt",
        "multihead_attn": "memory",
        "self_attn": "src" if type(node).__name__ == "EncoderLayer" else "tgt",
    }
    changed = {
        name: _with_attention(getattr(node, name), change, blocks, child, part)
        for name, child in children.items()
        if hasattr(node, name)
    }
    return replace(node, **changed)


def multiplied(computation):
    """The computation as torch's arithmetic does it, wherever nothing else is said: 0 * NaN is NaN."""

    def kernel(former):
        if former is attend:
            return multiplying_safely
        return replace(former, kernel=multiplying_safely) if getattr(former, "kernel", None) is attend else former

    return with_kernel(computation, kernel, ("self", "src", "tgt", "memory"))


def with_activation(computation, activation, blocks):
    """The computation with another activation in the layers of these blocks: "src", "tgt" or a part of them."""

    def change(layer, part):
        name = "src" if isinstance(layer, EncoderLayer) else "tgt"
        if not {name, name + part} & set(blocks):
            return layer
        return replace(layer, feed_forward=replace(layer.feed_forward, activation=activation))

    return replace(computation, function=with_layers(computation.function, change))


def with_layers(node, change, part=""):
    """The stack or layer with change(layer, ".early", ".last" or "") in the place of each layer."""
    if isinstance(node, (EncoderLayer, DecoderLayer)):
        return change(node, part)
    if isinstance(node, tuple):
        *early, last = node
        return (*(with_layers(layer, change, ".early") for layer in early), with_layers(last, change, ".last"))
    names = [name for name in ("encoder", "decoder", "layers") if hasattr(node, name)]
    return replace(node, **{name: with_layers(getattr(node, name), change) for name in names})


@dataclass(frozen=True)
class Packed:
    """The nested path of nn.TransformerEncoder: only kept positions are computed, the others are 0 before the norm.

    It keeps the first `lengths[n]` positions of each sample; `width` is the length of what comes back.
    """

    encoder: Encoder
    lengths: tuple[int, ...]
    width: int

    def __call__(self, src, src_mask=None, src_key_padding_mask=None):
        N, _, E = src.shape
        encoder = replace(self.encoder, norm=None)
        samples = {n: encoder(src[n : n + 1, :kept])[0] for n, kept in enumerate(self.lengths) if kept}
        output = np.zeros((N, self.width, E), np.result_type(src, *samples.values()))  # complex where these are
        for n, sample in samples.items():
            output[n, : len(sample)] = sample
        return output if self.encoder.norm is None else self.encoder.norm(output)


def packed(computation, case):
    """nn.TransformerEncoder on a nested tensor, alone or in nn.Transformer."""
    if isinstance(_encoder(computation), Packed):
        return computation
    lengths = tuple(int(n) for n in dispatch.nested_lengths(case)[0])
    computation = _with_encoder(computation, Packed(_encoder(computation), lengths, case.S))
    return replace(computation, ignores_garbage=case.module == "TransformerEncoder")


def truncated(computation):
    """What comes back from the nested path is as long as the longest sample."""
    encoder = _encoder(computation)
    return _with_encoder(computation, replace(encoder, width=max(encoder.lengths, default=0)))


def _encoder(computation):
    function = computation.function
    return function.encoder if isinstance(function, WholeTransformer) else function


def _with_encoder(computation, encoder):
    function = computation.function
    whole = replace(function, encoder=encoder) if isinstance(function, WholeTransformer) else encoder
    return replace(computation, function=whole)


def with_masks(computation, masks):
    """The call as if it had been given these masks instead."""
    return replace(computation, arguments={**computation.arguments, **masks})


def raising(computation, error, message):
    """The call raises instead."""
    return replace(computation, error=(error, message))


def warning(computation, pattern):
    """The call also warns."""
    return replace(computation, warnings=(*computation.warnings, pattern))


def undefined(computation, reason, where=True):
    """Shapes and dtypes hold, numbers don't, nor gradients. reason: of left_out.py. where: see Computation."""
    return replace(computation, undefined={**computation.undefined, reason: where})


def without_weights(computation):
    """The call returns no weights, though it was asked for them."""
    return replace(computation, lost=("weights",))


def without_gradient(computation, names):
    """What these arguments are differentiated for is lost."""
    return replace(
        computation,
        arguments={name: np.real(value) if name in names else value for name, value in computation.arguments.items()},
    )
