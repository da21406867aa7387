"""Mask recipes: plain data that a case holds, materialised as a NumPy array when the shape is known."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dtypes import PRECISIONS, rounded
from .spelling import Spelled

# Patterns of hidden positions, from few to many. `_attention` and `_padding` define them.
ATTENTION_PATTERNS = (
    "none",
    "one",
    "column",
    "last_column",
    "row",
    "diagonal",
    "causal",
    "nearly_causal",
    "band",
    "window",
    "block",
    "random",
    "anti_causal",
    "slice",
    "all",
)
PADDING_PATTERNS = ("none", "one", "right", "left", "scattered", "trailing", "sample", "all")

# Finite numbers that users write in place of -inf, the lowest numbers of other dtypes among them.
NUMBERS = {
    "large": 100.0,  # against scores of order 1: exp(-100) is far below the rounding unit of any dtype
    "negative": -100.0,
    "1e4": 1e4,
    "-1e4": -1e4,
    "-1e9": -1e9,
    "-1e30": -1e30,
    "float16_min": PRECISIONS["float16"].min,
    "bfloat16_min": PRECISIONS["bfloat16"].min,
}
# The values of a float mask; see `Mask`.
NAN = "nan"
VALUES = ("inf", "finite", "bias", "min", "slight", *NUMBERS, NAN)

LAYOUTS = ("contiguous", "transposed", "swapped", "sliced", "stepped", "expanded")


@dataclass(frozen=True, repr=False)
class Mask(Spelled):
    """One mask argument. The seed of the case fixes the random choices of its pattern and values.

    The values of a float mask:

        inf       -inf in hidden positions, 0 elsewhere: equivalent to the bool mask
        finite    a finite number of either sign in hidden positions, 0 elsewhere: hides no key
        bias      -inf in hidden positions, a finite number of either sign elsewhere
        min       finfo.min in hidden positions, 0 elsewhere
        slight    -inf in hidden positions, a small finite number of either sign elsewhere
        nan       NaN in hidden positions, 0 elsewhere: spoils the queries, as (1 - keep) * -inf does, and hides no key
        -1e9, ... the number of this name in NUMBERS in hidden positions, 0 elsewhere; inf if it overflows the dtype
    """

    form: str = "bool"  # "bool" or "float"
    pattern: str = "none"  # the hidden positions: one of ATTENTION_PATTERNS or PADDING_PATTERNS
    values: str = "inf"  # the numbers of a float mask: one of VALUES
    per_head: bool = False  # an attention mask is 3-D, with one (L, S) slice for each sample and head
    layout: str = "contiguous"  # memory layout of the tensor: one of LAYOUTS
    repeated: bool = False  # all slices are equal
    over_heads: bool = False  # all heads of a sample have equal slices
    over_samples: bool = False  # a mask (N, H, L, S) has equal slices in all samples, which heads do not share
    dtype: str | None = None  # the dtype of a float mask in torch; None: that of the inputs

    @property
    def is_float(self) -> bool:
        """True if the mask is a float mask."""
        return self.form == "float"

    @property
    def holds_nan(self) -> bool:
        """True if the mask may hold NaN."""
        return self.values == NAN

    def dtype_beside(self, inputs: str) -> str:
        """The dtype of the mask in torch, in a call whose inputs have the dtype `inputs`."""
        return "bool" if not self.is_float else self.dtype or inputs

    def array(self, shape: tuple[int, ...], dtype: str, seed: list[int], is_padding: bool = False) -> np.ndarray:
        """The mask with the polarity of the nn modules: True hides. A float mask holds numbers of `dtype`.

        shape: (N, S) of a padding mask, (..., L, S) of an attention mask.
        """
        if self.repeated:
            return np.broadcast_to(replace(self, repeated=False).array(shape[-2:], dtype, seed), shape)
        if self.over_heads:
            once = replace(self, over_heads=False).array((*shape[:-3], 1, *shape[-2:]), dtype, seed)
            return np.broadcast_to(once, shape)
        if self.over_samples and len(shape) > 3:
            once = replace(self, over_samples=False).array((1, *shape[1:]), dtype, seed)
            return np.broadcast_to(once, shape)
        rng = np.random.default_rng(seed)
        hidden = self._hidden(shape, rng, is_padding)
        if not self.is_float:
            return hidden
        numbers: Any = np.round(rng.normal(0, 2, shape), 3)
        at_hidden, elsewhere = {
            "inf": (-np.inf, 0.0),
            "finite": (numbers, 0.0),
            "bias": (-np.inf, numbers),
            "min": (PRECISIONS[dtype].min, 0.0),
            "slight": (-np.inf, numbers / 1000),
            NAN: (np.nan, 0.0),
            **{name: (number, 0.0) for name, number in NUMBERS.items()},
        }[self.values]
        return rounded(np.where(hidden, at_hidden, elsewhere), dtype)

    def _hidden(self, shape, rng, is_padding):
        if is_padding:
            return _padding(self.pattern, shape, rng)
        *batch, L, S = shape
        return _attention(self.pattern, (int(np.prod(batch)), L, S), rng).reshape(shape)


@dataclass(frozen=True, repr=False)
class Merged(Mask):
    """A 3-D float attention mask: the sum of an attention mask and a padding mask (clause 3)."""

    attn_mask: Mask | None = None
    key_padding_mask: Mask | None = None


@dataclass(frozen=True, repr=False)
class SeeingFirst(Mask):
    """A mask that hides the positions of its pattern, but never the first key."""

    def _hidden(self, shape, rng, is_padding):
        hidden = super()._hidden(shape, rng, is_padding).copy()
        hidden[..., :1] = False
        return hidden


@dataclass(frozen=True, repr=False)
class OverKeys(Mask):
    """A mask of one column, expanded over all keys."""

    def array(self, shape: tuple[int, ...], dtype: str, seed: list[int], is_padding: bool = False) -> np.ndarray:
        """The mask, as `Mask.array` gives it, with equal columns."""
        return np.broadcast_to(super().array((*shape[:-1], 1), dtype, seed, is_padding), shape)


@dataclass(frozen=True, repr=False)
class Given(Mask):
    """A mask with explicit elements. If `values` is "negative", -100 replaces numbers below -1000."""

    content: bytes = b""  # the elements of a C-ordered array
    shape: tuple[int, ...] = ()  # of this array
    was_float: bool = False  # the array is float64, not bool
    shown_first: bool = False  # the first key is visible to every query

    @property
    def holds_nan(self) -> bool:
        """True if an element is NaN."""
        return self.was_float and bool(np.isnan(np.frombuffer(self.content)).any())

    def array(self, shape: tuple[int, ...], dtype: str, seed: list[int], is_padding: bool = False) -> np.ndarray:
        """The elements, broadcast to the shape. See Mask.array."""
        held = np.frombuffer(self.content, float if self.was_float else bool).reshape(self.shape)
        if not self.is_float:
            held = held != 0
        elif not self.was_float:
            held = np.where(held, -np.inf, 0.0)
        elif self.values == "negative":
            held = np.where(np.isfinite(held) & (held < -1e3), NUMBERS["negative"], held)
        if self.shown_first:
            held = held.copy()
            held[..., :1] = 0
        return np.broadcast_to(held if not self.is_float else rounded(held, dtype), shape)


def _attention(pattern, shape, rng):
    """The positions that a pattern hides, as a bool array of shape (B, L, S)."""
    B, L, S = shape
    b, i, j = np.ogrid[:B, :L, :S]
    one_b, one_i, one_j = (rng.integers(max(size, 1)) for size in shape)
    width = 1 + rng.integers(3)
    everywhere = np.zeros(shape, bool)
    return (
        everywhere
        | {
            "none": lambda: False,
            "one": lambda: (b == one_b) & (i == one_i) & (j == one_j),
            "column": lambda: j == (one_j + b) % max(S, 1),
            "last_column": lambda: j == S - 1,
            "row": lambda: i == (one_i + b) % max(L, 1),
            "diagonal": lambda: (i + b) % max(S, 1) == j,
            "causal": lambda: j > i,
            "nearly_causal": lambda: (j > i) ^ ((i == _odd(L, one_i, rng)) & (j == _odd(S, one_j, rng))),
            "band": lambda: abs(i - j) > width,
            "window": lambda: (j > i) | (j < i - width),
            "block": lambda: i // width != j // width,
            "random": lambda: rng.random(shape) < rng.choice([0.2, 0.5, 0.8]),
            "anti_causal": lambda: j <= i,
            "lower_right": lambda: j > i + S - L,  # causal, aligned at the last query and the last key
            "right": lambda: j >= rng.integers(min(1, S), S + 1, size=(B, 1, 1)),  # samples of random lengths
            "slice": lambda: b == one_b,
            "all": lambda: True,
        }[pattern]()
    )


def _odd(size, anywhere, rng):
    """The row or column in which a mask is not causal: random, or the last, which an incomplete check may skip."""
    return rng.choice([anywhere, anywhere, size - 1])


def _padding(pattern, shape, rng):
    """The positions that a pattern hides, as a bool array of shape (N, S)."""
    N, S = shape
    n, j = np.ogrid[:N, :S]
    one_n, one_j = rng.integers(max(N, 1)), rng.integers(max(S, 1))
    lengths = rng.integers(min(1, S), S + 1, size=(N, 1))
    everywhere = np.zeros(shape, bool)
    return (
        everywhere
        | {
            "none": lambda: False,
            "one": lambda: (n == one_n) & (j == one_j),
            "right": lambda: j >= lengths,
            "left": lambda: j < S - lengths,
            "scattered": lambda: rng.random(shape) < rng.choice([0.2, 0.5, 0.8]),
            "trailing": lambda: j >= lengths.min(initial=S),
            "sample": lambda: n == one_n,
            "all": lambda: True,
        }[pattern]()
    )
