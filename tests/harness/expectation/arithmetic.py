"""Attention in torch's arithmetic: a hidden key is multiplied by a weight of 0, and 0 * NaN is NaN.

The kernels take and return the values that reference.attention.attend does. The reference leaves hidden keys out of
its sums, so the results differ only for NaN, inf and fully masked queries.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reference import masks as meaning
from reference.attention import added, attend
from reference.derivative import complex_of


def multiplying(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """(context, weights) without special cases: hidden NaN spreads, and a fully masked query computes 0 / 0."""
    scores = scale * (query @ np.swapaxes(key, -1, -2))
    if bias is not None:
        scores = np.where(meaning.hidden(bias) & ~np.isnan(scores), -np.inf, added(scores, bias))
    powers = np.exp(scores - highest(scores))
    weights = powers / powers.sum(axis=-1, keepdims=True)
    return weights @ value, weights


def multiplying_safely(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """(context, weights) of `multiplying`, with zeros for rows whose scores are all -inf."""
    context, weights = multiplying(query, key, value, bias, scale)
    if bias is None:
        return context, weights
    unscored = np.isnan(query).any(axis=-1, keepdims=True) | np.isnan(key).any(axis=(-2, -1))[..., None, None]
    empty = np.broadcast_to(meaning.hidden(bias), weights.shape).all(axis=-1, keepdims=True) & ~unscored
    return np.where(empty, 0, context), np.where(empty, 0, weights)


@dataclass(frozen=True)
class Coarse:
    """A kernel whose scores are multiples of a step, so that neighbouring ones are equal: a tie shares the weight.

    The step is proportional to the largest sum of absolute products in a query's scores, as their error is.
    """

    kernel: Callable
    size: float  # of the step, as a part of the largest sum
    shift: float = 0.0  # of the multiples, in steps

    def __call__(
        self, query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(context, weights); arguments as in reference.attention.attend."""
        q, k = (np.array(given.real, "float64", subok=False) for given in (query, np.swapaxes(key, -1, -2)))
        scores, sizes = scale * (q @ k), abs(scale) * (np.abs(q) @ np.abs(k))
        if bias is not None:
            sizes = np.where(meaning.hidden(bias), 0, sizes)
        step = self.size * sizes.max(axis=-1, keepdims=True, initial=0.0)
        where = np.isfinite(scores) & (scores != 0) & (step > 0) & np.isfinite(step)
        multiples = np.divide(scores, step, where=where, out=np.zeros_like(scores))
        kept = (np.round(multiples + self.shift) - self.shift) * step
        ratio = np.divide(kept, scores, where=where, out=np.ones_like(scores))
        return self.kernel(query, key, value, bias, scale * ratio)


@dataclass(frozen=True)
class Arithmetic:
    """A kernel with the NaN of IEEE 754: 0 * NaN, 0 * inf and inf - inf are NaN."""

    fills: bool = False  # a hidden key gets the score -inf; else -inf is added to its score, and NaN stays NaN
    is_safe: bool = False  # a row of scores that are all -inf has zero weights
    skips: bool = False  # the CPU's fused kernel under is_causal=True: it reads no key behind its last block

    def __call__(
        self, query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(context, weights); arguments as in reference.attention.attend.

        Complex arguments carry a derivative (reference/derivative.py); that of the results is the specified one.
        """
        context, weights = self._computed(query.real, key.real, value.real, None if bias is None else bias.real, scale)
        if not any(np.iscomplexobj(given) for given in (query, key, value, bias) if given is not None):
            return context, weights
        its_context, its_weights = attend(query, key, value, bias, scale)
        return complex_of(context, its_context.imag), complex_of(weights, its_weights.imag)

    def _computed(self, query, key, value, bias, scale):
        scores = scale * (query @ np.swapaxes(key, -1, -2))
        if bias is not None:
            hidden = meaning.hidden(bias)
            sums = np.where(hidden, scores + bias, added(scores, bias))
            scores = np.where(hidden & self.fills, -np.inf, sums)
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


def finite(bias: np.ndarray) -> np.ndarray:
    """The bias with 0 at hidden positions."""
    return np.where(meaning.hidden(bias), 0, bias)


def highest(scores: np.ndarray) -> np.ndarray:
    """(..., L, S) -> (..., L, 1): the largest score of each query; -inf if there are no keys."""
    return np.max(scores.real, axis=-1, keepdims=True, initial=-np.inf)


def computed_keys(L: int, S: int) -> np.ndarray:
    """int (L,): the number of keys that the CPU's fused kernel computes for each query under is_causal=True."""
    block = 256 if L >= 768 else 64 if L >= 192 else 32
    visible = np.minimum((np.arange(L) // block + 1) * block, S)
    return np.minimum(-(-visible // 512) * 512, S)


def last_block(L: int, S: int) -> np.ndarray:
    """int (L,): the size of the last block of keys that the CPU's fused kernel computes under is_causal=True."""
    return (computed_keys(L, S) - 1) % 512 + 1
