"""Changes to a computation that entries of several families share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reference import masks as meaning
from reference.derivative import complex_of

from ..expectation.arithmetic import finite, highest, multiplying
from ..expectation.changes import with_masks
from ..expectation.specification import Computation


@dataclass(frozen=True)
class HidingNonzero:
    """A kernel that reads a float mask as a bool mask: every number other than 0 hides its key."""

    kernel: Callable = multiplying  # computes the attention with the changed mask

    def __call__(self, query, key, value, bias, scale):
        hides = None if bias is None else np.where(bias.real != 0, -np.inf, 0)
        return self.kernel(query, key, value, hides, scale)


@dataclass(frozen=True)
class MaskingHalfOfAVector:
    """The CPU's fused kernel with a float32 mask and float64 inputs, which skips half of each vector of keys.

    The kernel advances by the keys of a float32 vector, `lanes`, but masks and scales only the keys of a float64
    vector, half as many. The other scores stay the plain products. The backward pass scales these products, but does
    not mask them either.
    """

    kernel: Callable  # computes the attention without a mask
    lanes: int  # float32 numbers in a vector

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
        return complex_of(context, slope), weights


def hides_first_block(bias: np.ndarray) -> np.ndarray:
    """bool (..., L): True for a row of the bias that hides the first 512 keys."""
    return np.all(meaning.hidden(bias[..., :512]), axis=-1)


_NO_ELEMENTS = (
    "RuntimeError|AcceleratorError",
    "at least one constituent tensor should have non-zero numel|CUDA error: invalid argument",
)


def beyond(masks: Mapping[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
    """{name: bool array}, True at finite numbers of a mask that are larger than `limit` in absolute value.

    A mask without any is left out.
    """
    places = {name: np.isfinite(array) & (np.abs(array) > limit) for name, array in masks.items()}
    return {name: where for name, where in places.items() if where.any()}


def overflowed(computation: Computation, places: Mapping[str, np.ndarray]) -> Computation:
    """The computation with masks that are infinite at these places.

    Converting the mask has a derivative at these places, too.
    """
    given = computation.arguments
    return with_masks(
        computation,
        {
            name: given[name] + np.where(where, np.copysign(np.inf, given[name].real), 0)
            for name, where in places.items()
        },
    )
