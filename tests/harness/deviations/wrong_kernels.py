"""Wrong kernels: they treat the merged mask, fully masked rows or NaN in another way than specified.

A kernel is a function (query, key, value, bias, scale) -> (context, weights), see reference/attention.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from reference import masks as meaning

from ..expectation.arithmetic import multiplying, multiplying_safely
from .effects import HidingNonzero


@dataclass(frozen=True)
class Unmasked:
    """A kernel that ignores the merged mask."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        return self.kernel(query, key, value, None, scale)


@dataclass(frozen=True)
class Averaging:
    """A kernel that attends to all keys alike where the query may attend to none."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        is_empty = meaning.hidden(bias).all(axis=-1, keepdims=True)
        return self.kernel(query, key, value, np.where(is_empty, 0, bias), scale)


@dataclass(frozen=True)
class LosingNan:
    """A kernel that gives 0 for a query that is NaN."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_nan = np.isnan(query).any(axis=-1, keepdims=True)
        return np.where(is_nan, 0, context), np.where(is_nan, 0, weights)


@dataclass(frozen=True)
class HeadsFirst:
    """A kernel that reads the slices of the merged mask by head first: slice h * N + n for sample n and head h."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        if bias is None or query.ndim != 4:
            return self.kernel(query, key, value, bias, scale)
        N, H, L, _ = query.shape
        slices = np.broadcast_to(bias, (N, H, L, key.shape[-2]))
        slices = np.swapaxes(slices.reshape(H, N, *slices.shape[-2:]), 0, 1)
        return self.kernel(query, key, value, slices, scale)


@dataclass(frozen=True)
class Rebiased:
    """A kernel that gets another merged mask: change(bias, in the shape of the scores)."""

    kernel: Callable
    change: Callable[[np.ndarray], np.ndarray]

    def __call__(self, query, key, value, bias, scale):
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        whole = np.broadcast_to(bias, (*batch, query.shape[-2], key.shape[-2]))
        return self.kernel(query, key, value, self.change(whole), scale)


def _unmasked_last(bias, axis):
    if bias.ndim < 3:
        return bias
    is_last = np.arange(bias.shape[axis]) == bias.shape[axis] - 1
    return np.where(is_last.reshape([-1, *[1] * (-axis - 1)]), 0, bias)


def _first_head(bias):
    return bias[..., :1, :, :] if bias.ndim > 2 else bias


_REBIASED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "inverted": ("the merged mask is inverted", lambda bias: np.where(meaning.hidden(bias), 0.0, -np.inf)),
    "doubled": ("the merged mask is added twice", lambda bias: 2 * bias),
    "last_head": ("the last head is not masked", partial(_unmasked_last, axis=-3)),
    "last_sample": ("the last sample is not masked", partial(_unmasked_last, axis=-4)),
    "first_head": (
        "all heads have the mask of the first",
        lambda bias: np.broadcast_to(bias[..., :1, :, :], bias.shape),
    ),
}


KERNELS: dict[str, tuple[str, Callable[[Callable], Callable]]] = {
    "unmasked": ("no mask is applied", Unmasked),
    "nan": ("fully masked rows are NaN", lambda _: multiplying),
    "zero": ("fully masked rows are 0", lambda _: multiplying_safely),
    "averaging": ("fully masked rows attend to all keys", Averaging),
    "losing_nan": ("a query that is NaN gives 0", LosingNan),
    "heads_first": ("the merged mask is read with heads before samples", HeadsFirst),
    **{name: (words, partial(Rebiased, change=change)) for name, (words, change) in _REBIASED.items()},
    "as_bool": ("every number of the merged mask other than 0 hides", lambda _: HidingNonzero()),
}
