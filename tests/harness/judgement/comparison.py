"""How far is too far: an observation against a prediction, by class first (NaN, inf, finite), then by value.

The bound of a finite element is SAFETY * (u * (condition + sqrt(terms) * magnitude) + terms * tiny). u is the unit
roundoff of the dtype. condition is the error that the same formula makes when it is evaluated in float32, or of inputs
that are moved by such a rounding, in units of float32's roundoff, so that it carries whatever cancellation the case
has; the next term is the usual statistical bound of a sum of that many terms, for cases where these errors happen to be
small. tiny is the dtype's smallest normal number: what lies below it a kernel may round to 0.

In bfloat16 and float16 the formula is evaluated in that arithmetic itself (dtypes.py), and a result may err a small
multiple of what it errs there: SAFETY_OF_LOW * (u * (condition + magnitude) + terms * tiny), a derivative three times
that, since a backward pass rounds otherwise.

A whole array has one bound, but each row of a garbage query has one of its own, which must not loosen that of others:
in a low precision from three times the condition, since few elements have erred there.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..cases.dtypes import FULL, LOW, PRECISIONS
from ..contents.arrays import largest_score
from ..modes.modes import computed_in

SAFETY = 32.0
SAFETY_OF_LOW = 4.0  # where the error of the same formula in the same arithmetic is known
SAFETY_OF_LOW_GRADIENT = 12.0  # a backward pass rounds what a forward one does not
CONDITION_OF_LOW_ROW = 3.0  # the largest error of one row says less than that of a whole array


def rough(dtype):
    """The dtype in which the formula is evaluated to see how far it errs: a low one itself, else float32."""
    return dtype if dtype in LOW else "float32"


def roundoff(dtype):
    """The unit of such an error."""
    return PRECISIONS[rough(dtype)].roundoff


# The kinds of things that differ.
VALUE = "value"  # an element of a result or of its tangent

SHAPE, DTYPE, DEVICE = "shape", "dtype", "device"  # of a result

RESULTS = "results"  # which results there are

GRADIENT = "gradient"  # in a direction; at an index, where one is NaN and the other is not

LEAK = "leak"  # the gradient of a hidden position is not 0

CONTENT = "content"  # a result changes with the content of hidden positions

MUTATED = "mutated"  # an argument changes

ERROR, WARNING, DROPOUT = "error", "warning", "dropout"


@dataclass(frozen=True)
class Mismatch:
    """One thing that differs."""

    what: str  # its name
    expected: object
    got: object
    where: tuple[int, ...] | None = None  # the index of the first wrong element
    error: float | None = None
    bound: float | None = None  # the error that is allowed at `where`
    kind: str = VALUE  # one of those above
    of: tuple[str, ...] = ()  # names of the results or arguments that are concerned


def bound(expected, rough, dtype, terms, ignore=None, by_row=False):
    """The largest error that a right result may have, for a whole array (see the module's docstring).

    rough: the same formula in float32 or a low precision. ignore: True where an element is not to count. by_row: for
    each row (..., 1) instead.
    """
    counts = np.isfinite(expected) & np.isfinite(rough)
    if ignore is not None:
        counts &= ~np.broadcast_to(ignore, expected.shape)

    def largest(array):
        if by_row:
            return np.asarray(array).max(axis=-1, keepdims=True, where=counts, initial=0.0).astype("float64")
        return float(np.max(array, where=counts, initial=0.0))

    with np.errstate(invalid="ignore"):  # inf - inf, which does not count
        error = np.abs(rough - expected)
    condition = largest(error) / roundoff(dtype)
    if by_row and dtype in LOW:
        condition = CONDITION_OF_LOW_ROW * condition
    return allowance(dtype, condition, largest(np.abs(expected)), terms)


def is_undetermined(expected, allowed):
    """bool (..., 1): whether the bound of a row says nothing about its numbers, since it is as large as they are."""
    size = np.abs(expected).max(axis=-1, keepdims=True, where=np.isfinite(expected), initial=0.0)
    return allowed > size / 2


def bound_of_gradient(error, size, dtype, terms):
    """The same for a derivative. error: of the same formula, as in `bound`. size: of what is summed up."""
    return allowance(dtype, error / roundoff(dtype), size, terms, SAFETY_OF_LOW_GRADIENT)


def allowance(dtype, condition, magnitude, terms, safety_of_low=SAFETY_OF_LOW):
    """The bound itself."""
    kind = PRECISIONS[dtype]
    if dtype in LOW:  # sums are kept in float32
        return safety_of_low * (kind.roundoff * (condition + magnitude) + terms * kind.tiny)
    return SAFETY * (kind.roundoff * (condition + sqrt(terms) * magnitude) + terms * kind.tiny)


def compare_numbers(what, expected, got, allowed):
    """As compare_arrays, for one number, of which 0 is no special value."""
    array, others = np.array(expected), np.array(got)
    error = abs(expected - got)
    if _classes(array) == _classes(others) and (not np.isfinite(expected) or error <= allowed):
        return None, float(error / allowed) if np.isfinite(expected) and allowed else 0.0
    return Mismatch(what, float(expected), float(got), None, float(error), float(allowed), GRADIENT), 0.0


def compare_arrays(what, expected, got, allowed, ignore=None, zero_is_exact=True):
    """(Mismatch or None, largest error / bound). What a prediction says is exactly 0 must be exactly 0.

    allowed: a number, or one for each row (..., 1).
    ignore: True where only the class of an element is compared. zero_is_exact: where that is so; False between two
    measurements, of which one may underflow where the other does not.
    """
    if expected.shape != got.shape:
        return Mismatch(f"{what} shape", expected.shape, got.shape, kind=SHAPE, of=(what,)), 0.0
    wrong = _classes(expected) != _classes(got)
    finite = np.isfinite(expected) & np.isfinite(got)
    if ignore is not None:
        finite &= ~np.broadcast_to(ignore, expected.shape)
    error = np.abs(np.subtract(got, expected, where=finite, out=np.zeros(expected.shape)))
    limit = np.where((expected == 0) & zero_is_exact, 0.0, allowed)
    wrong |= error > limit
    ratio = float(_largest_ratio(error, allowed))
    if not wrong.any():
        return None, ratio
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    numbers = (float(array[where]) for array in (error, limit))
    return Mismatch(what, float(expected[where]), float(got[where]), where, *numbers, of=(what,)), ratio


def _largest_ratio(error, allowed):
    if not np.ndim(allowed):
        return float(error.max(initial=0.0)) / allowed if allowed else 0.0
    with np.errstate(over="ignore"):
        return float(np.divide(error, allowed, where=allowed > 0, out=np.zeros(error.shape)).max(initial=0.0))


def _classes(array):
    """1 for NaN, 2 for +inf, 3 for -inf, 0 for finite."""
    if np.isfinite(array).all():
        return np.zeros(array.shape, int)
    return np.select([np.isnan(array), np.isposinf(array), np.isneginf(array)], [1, 2, 3], 0)


def terms(case):
    """About how many roundings of the size of a result meet in one of its elements.

    A score beside a mask of -1e4 is rounded as a number of that size. Evaluating the formula in float32 does not always
    tell: one score may be rounded by little, and beside -1e9, which float64 has digits for, all are lost.
    """
    widths = [getattr(case, name, 1) for name in ("S", "T", "L", "D", "E", "dim_feedforward")]
    size = largest_score(case) if computed_in(case) in FULL else 0.0
    return sum(widths) * case.num_layers * (1 + size / 8) ** 2


def contraction(gradients, directions):
    """(sum of <gradient, direction> over all names, sqrt of the sum of squares of its terms)"""
    total = squares = 0.0
    for name, direction in directions.items():
        if gradients.get(name) is not None:
            with np.errstate(invalid="ignore", over="ignore"):  # a wrong gradient may hold anything
                products = gradients[name].astype("float64") * direction
                total += products.sum()
                squares += (products**2).sum()
    return total, sqrt(squares) if np.isfinite(squares) else squares
