"""Changes to a computation that entries of several families share."""

from dataclasses import dataclass

import numpy as np

from reference import masks as meaning

from ..expectation.arithmetic import finite, highest, multiplying
from ..expectation.changes import with_masks


@dataclass(frozen=True)
class HidingNonzero:
    """A float mask read as a bool one: whatever is not 0 hides."""

    kernel: object = multiplying

    def __call__(self, query, key, value, bias, scale):
        hides = None if bias is None else np.where(bias.real != 0, -np.inf, 0)
        return self.kernel(query, key, value, hides, scale)


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
        masked = np.where(meaning.hidden(bias), -np.inf, (scale * products).real + finite(bias).real)
        scores = np.where(is_left, products.real, masked)
        scores_again = np.where(is_left, scale * products.real, masked)
        top = highest(scores)
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


def hides_first_block(bias):
    """Where a row of the bias hides the first 512 keys."""
    return meaning.hidden(bias[..., :512]).all(axis=-1)


_NO_ELEMENTS = (
    "RuntimeError|AcceleratorError",
    "at least one constituent tensor should have non-zero numel|CUDA error: invalid argument",
)


def beyond(masks, limit):
    """{name: where it does}: the masks that hold a finite number larger than the limit."""
    places = {name: np.isfinite(array) & (np.abs(array) > limit) for name, array in masks.items()}
    return {name: where for name, where in places.items() if where.any()}


def overflowed(computation, places):
    """The computation with masks that are infinite there. A conversion has a derivative there, too."""
    given = computation.arguments
    return with_masks(
        computation,
        {
            name: given[name] + np.where(where, np.copysign(np.inf, given[name].real), 0)
            for name, where in places.items()
        },
    )
