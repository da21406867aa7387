"""A mask as a case holds it: a recipe of plain data, materialised as a NumPy array when the shape is known."""

from dataclasses import dataclass, replace

import numpy as np

from .dtypes import PRECISIONS, rounded
from .spelling import Spelled

# What a pattern hides, from the least to the most. Each takes (B, L, S) indices and a generator; see `Mask.hidden`.
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

# What a float mask holds where the pattern hides, and elsewhere.
# As people write them: numbers that stand for -inf, and the lowest numbers of other dtypes.
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
VALUES = ("inf", "finite", "bias", "min", "slight", *NUMBERS)

LAYOUTS = ("contiguous", "transposed", "sliced", "stepped", "expanded")


@dataclass(frozen=True, repr=False)
class Mask(Spelled):
    """One mask argument.

    `pattern` says what is hidden, `form` whether by bool or by float, `values` what the float holds:

        inf       -inf where hidden, else 0: the twin of the bool mask
        finite    a finite number of either sign where hidden, else 0: nothing is really hidden
        bias      -inf where hidden, else a finite number of either sign
        min       finfo.min where hidden, else 0
        slight    -inf where hidden, else a finite number of either sign that is small
        -1e9, ... the number of that name in NUMBERS where hidden, else 0; infinite if the dtype has no such number

    `per_head` makes an attention mask 3-D, with a slice for each sample and head, of its own or, where `repeated`,
    the same for all, or where it is `over_heads`, for all heads of a sample. `layout` is that of the tensor's memory.
    `dtype` is that of a float mask, if not that of the inputs. What the pattern leaves open is decided by a seed that
    the case gives.
    """

    form: str = "bool"
    pattern: str = "none"
    values: str = "inf"
    per_head: bool = False
    layout: str = "contiguous"
    repeated: bool = False
    over_heads: bool = False
    dtype: str | None = None

    @property
    def is_float(self):
        return self.form == "float"

    def dtype_beside(self, inputs):
        """The dtype in torch of the mask beside inputs of this dtype."""
        return "bool" if not self.is_float else self.dtype or inputs

    def array(self, shape, dtype, seed, is_padding=False):
        """The mask as the nn modules take it: bool, True hides, or numbers of `dtype` to add.

        shape: (N, S) of padding, else (..., L, S). seed: a list of int.
        """
        if self.repeated:
            return np.broadcast_to(replace(self, repeated=False).array(shape[-2:], dtype, seed), shape)
        if self.over_heads:
            once = replace(self, over_heads=False).array((*shape[:-3], 1, *shape[-2:]), dtype, seed)
            return np.broadcast_to(once, shape)
        rng = np.random.default_rng(seed)
        hidden = self._hidden(shape, rng, is_padding)
        if not self.is_float:
            return hidden
        numbers = np.round(rng.normal(0, 2, shape), 3)
        at_hidden, elsewhere = {
            "inf": (-np.inf, 0.0),
            "finite": (numbers, 0.0),
            "bias": (-np.inf, numbers),
            "min": (PRECISIONS[dtype].min, 0.0),
            "slight": (-np.inf, numbers / 1000),
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
    """A float attention mask per head that is the sum of an attention mask and a padding mask (clause 3)."""

    attn_mask: Mask | None = None
    key_padding_mask: Mask | None = None


@dataclass(frozen=True, repr=False)
class SeeingFirst(Mask):
    """A mask that leaves the first key to every query, and else hides what its pattern hides."""

    def _hidden(self, shape, rng, is_padding):
        hidden = super()._hidden(shape, rng, is_padding).copy()
        hidden[..., :1] = False
        return hidden


@dataclass(frozen=True, repr=False)
class OverKeys(Mask):
    """A mask of one column, expanded over all keys."""

    def array(self, shape, dtype, seed, is_padding=False):
        return np.broadcast_to(super().array((*shape[:-1], 1), dtype, seed, is_padding), shape)


def _attention(pattern, shape, rng):
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
            "right": lambda: j >= rng.integers(min(1, S), S + 1, size=(B, 1, 1)),  # of samples as long as they like
            "slice": lambda: b == one_b,
            "all": lambda: True,
        }[pattern]()
    )


def _odd(size, anywhere, rng):
    """Where a mask is not quite causal: anywhere, or in the last row or column, where a shortened search ends."""
    return rng.choice([anywhere, anywhere, size - 1])


def _padding(pattern, shape, rng):
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
