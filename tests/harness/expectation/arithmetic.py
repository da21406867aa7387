"""Attention as torch's arithmetic computes it: hidden keys are multiplied by 0, and 0 * NaN is NaN.

Kernels have the signature of reference.attention.attend. The reference leaves hidden keys out; the kernels here
multiply by a weight of 0 as torch does, which is the same unless something is NaN or infinite.
"""

from dataclasses import dataclass

import numpy as np

from reference import masks as meaning
from reference.attention import added


def multiplying(query, key, value, bias, scale):
    """Plain arithmetic: NaN spreads through hidden keys, and a row that sees no key is 0 / 0."""
    scores = scale * (query @ np.swapaxes(key, -1, -2))
    if bias is not None:
        scores = np.where(meaning.hidden(bias) & ~np.isnan(scores), -np.inf, added(scores, bias))
    powers = np.exp(scores - highest(scores))
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
        powers = np.exp(scores - highest(scores))
        weights = powers / powers.sum(axis=-1, keepdims=True)
        if self.is_safe:
            weights = np.where(np.isneginf(scores).all(axis=-1, keepdims=True), 0, weights)
        if not self.skips:
            return weights @ value, weights
        L, S = scores.shape[-2:]
        computed = np.arange(S) < computed_keys(L, S)[:, None]
        spoiled = (computed[:, :, None] & ~np.isfinite(value)[..., None, :, :]).any(axis=-2)
        return np.where(spoiled, np.nan, weights @ np.where(np.isfinite(value), value, 0)), weights


def finite(bias):
    return np.where(meaning.hidden(bias), 0, bias)


def highest(scores):
    return np.max(scores.real, axis=-1, keepdims=True, initial=-np.inf)


def computed_keys(L, S):
    """(L,): how many keys the CPU's fused kernel computes for each query under is_causal=True."""
    block = 256 if L >= 768 else 64 if L >= 192 else 32
    visible = np.minimum((np.arange(L) // block + 1) * block, S)
    return np.minimum(-(-visible // 512) * 512, S)


def last_block(L, S):
    """(L,): how many keys the last block of these has."""
    return (computed_keys(L, S) - 1) % 512 + 1
