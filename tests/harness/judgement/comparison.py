"""Compares observed arrays with expected ones: by class first (NaN, +inf, -inf, finite), then by value within a bound.

A finite element may be off by SAFETY * (u * (condition + sqrt(terms) * magnitude) + terms * tiny):

    u          the unit roundoff of the dtype
    condition  the error of the same formula in float32, or on inputs perturbed by a rounding of float32, in units of
               the roundoff of float32. It measures the cancellation of the case.
    terms      the number of roundings that add up in one element
    magnitude  the largest expected absolute value. sqrt(terms) * magnitude is the usual statistical bound of a sum; it
               counts if the errors in float32 happen to be small.
    tiny       the smallest normal number of the dtype: a kernel may round smaller numbers to 0

In bfloat16 and float16 the formula is evaluated in this low precision itself (dtypes.py). An element may then be off by
a small multiple of the error seen there: SAFETY_OF_LOW * (u * (condition + magnitude) + terms * tiny). A derivative may
be off by three times as much (SAFETY_OF_LOW_GRADIENT), since a backward pass rounds differently.

A whole array has one bound, except for the rows of garbage queries: each has a bound of its own, so that their huge
numbers do not loosen the bound of other rows. In a low precision such a bound uses CONDITION_OF_LOW_ROW times the
condition, since the largest of the few errors of a row is less reliable. There the formula is evaluated with scores of
few digits, too, which shows between which keys a rounding decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..cases.case import Case
from ..cases.dtypes import FULL, LOW, PRECISIONS
from ..contents.arrays import largest_score
from ..modes.modes import computed_in

SAFETY = 32.0
SAFETY_OF_LOW = 4.0  # smaller, as the error of the same formula in the same precision is known
SAFETY_OF_LOW_GRADIENT = 12.0  # a backward pass rounds more often than a forward pass
CONDITION_OF_LOW_ROW = 3.0  # the largest error of one row is less reliable than the largest error of a whole array


def rough(dtype: str) -> str:
    """The dtype in which the formula is evaluated to measure its error: a low precision itself, otherwise float32."""
    return dtype if dtype in LOW else "float32"


def roundoff(dtype: str) -> float:
    """The unit roundoff of `rough(dtype)`, the unit of a measured error."""
    return PRECISIONS[rough(dtype)].roundoff


# The kinds of mismatches.
VALUE = "value"  # an element of a result or of its tangent

SHAPE, DTYPE, DEVICE = "shape", "dtype", "device"  # of a result

RESULTS = "results"  # the names of the results

GRADIENT = "gradient"  # a directional derivative; with an index, an element that is NaN only on one side

SECOND = "second gradient"  # a directional derivative of a directional derivative

LEAK = "leak"  # the gradient of a hidden position is not 0

CONTENT = "content"  # a result changes with the content of hidden positions

MUTATED = "mutated"  # an argument or a parameter changes

LENT = "lent"  # a result shares the memory of an argument or a parameter

SETTING = "setting"  # a setting of torch, or an attribute of the module, changes

PATH = "path"  # the call takes a path that the caller has ruled out

ATTACHED = "attached"  # a result requires a gradient though autograd records nothing

ERROR, WARNING, DROPOUT = "error", "warning", "dropout"


@dataclass(frozen=True)
class Mismatch:
    """A difference between an observation and its prediction."""

    what: str  # the name of the thing that differs, such as "output", "output dtype", "gradient of key" or "warning"
    expected: object
    got: object
    where: tuple[int, ...] | None = None  # index of the first wrong element
    error: float | None = None  # absolute error at `where`
    bound: float | None = None  # largest allowed error at `where`
    kind: str = VALUE  # one of the kinds above
    of: tuple[str, ...] = ()  # names of the wrong results or arguments


def side_effect(kind: str, of: Sequence[str], got: object) -> tuple[str, str] | None:
    """(kind, text) of a mismatch that is a warning or a changed setting; None for another, or a missing warning.

    kind, of, got: see Mismatch. The text is the message, or the name of the setting.
    """
    if kind == WARNING:
        return (kind, str(got)) if got else None
    return (kind, of[0]) if kind == SETTING else None


def bound(
    expected: np.ndarray,
    rough: np.ndarray,
    dtype: str,
    terms: float,
    ignore: np.ndarray | None = None,
    by_row: bool = False,
) -> float | np.ndarray:
    """The largest error that a right result may have (formula: docstring of the module), for the whole array.

    expected: the prediction in float64. rough: the same formula in float32 or a low precision. dtype: of the
    arithmetic of torch. terms: see `terms`. ignore: True at elements that do not count, broadcastable to `expected`.
    by_row: return one bound for each row, in the shape (..., 1).
    """
    counts = np.isfinite(expected) & np.isfinite(rough)
    if ignore is not None:
        counts &= ~np.broadcast_to(ignore, expected.shape)

    def largest(array):
        if by_row:
            return np.asarray(array).max(axis=-1, keepdims=True, where=counts, initial=0.0).astype("float64")
        return float(np.max(array, where=counts, initial=0.0))

    with np.errstate(invalid="ignore"):  # inf - inf; these elements do not count
        error = np.abs(rough - expected)
    condition = largest(error) / roundoff(dtype)
    if by_row and dtype in LOW:
        condition = CONDITION_OF_LOW_ROW * condition
    return allowance(dtype, condition, largest(np.abs(expected)), terms)


def distance(
    expected: np.ndarray, other: np.ndarray, ignore: np.ndarray | None = None, by_row: bool = False
) -> float | np.ndarray:
    """The largest difference of elements that are finite in both. ignore, by_row: see `bound`."""
    counts = np.isfinite(expected) & np.isfinite(other)
    if ignore is not None:
        counts &= ~np.broadcast_to(ignore, expected.shape)
    with np.errstate(invalid="ignore"):  # inf - inf; these elements do not count
        error = np.abs(other - expected)
    if by_row:
        return error.max(axis=-1, keepdims=True, where=counts, initial=0.0)
    return float(np.max(error, where=counts, initial=0.0))


def is_undetermined(expected: np.ndarray, allowed: np.ndarray, dtype: str) -> np.ndarray:
    """bool (..., 1): True for rows whose bound is more than half their largest number, so that it tests little.

    In a low precision a quarter is enough: beside -1e4 scores are rounded to multiples of 8 in float16, and a tie moves
    a whole weight, which the sampled error of a single row may miss. allowed: the bound of each row (..., 1). dtype: of
    the arithmetic.
    """
    size = np.abs(expected).max(axis=-1, keepdims=True, where=np.isfinite(expected), initial=0.0)
    return allowed > size / (4 if dtype in LOW else 2)


def bound_of_gradient(error: float, size: float, dtype: str, terms: float) -> float | np.ndarray:
    """The largest error that a right directional derivative may have.

    error: the error of the same formula in `rough(dtype)`. size: the norm of the summands of the derivative.
    """
    return allowance(dtype, error / roundoff(dtype), size, terms, SAFETY_OF_LOW_GRADIENT)


def allowance(
    dtype: str,
    condition: float | np.ndarray,
    magnitude: float | np.ndarray,
    terms: float,
    safety_of_low: float = SAFETY_OF_LOW,
) -> float | np.ndarray:
    """The bound by the formula in the docstring of the module. safety_of_low: the factor in a low precision."""
    kind = PRECISIONS[dtype]
    if dtype in LOW:  # torch accumulates sums in float32
        return safety_of_low * (kind.roundoff * (condition + magnitude) + terms * kind.tiny)
    return SAFETY * (kind.roundoff * (condition + sqrt(terms) * magnitude) + terms * kind.tiny)


def compare_numbers(what: str, expected: float, got: float, allowed: float) -> tuple[Mismatch | None, float]:
    """(Mismatch or None, error / bound) of a directional derivative. An expected 0 need not be exact.

    what: as in Mismatch. allowed: the largest allowed error.
    """
    array, others = np.array(expected), np.array(got)
    error = abs(expected - got)
    if _classes(array) == _classes(others) and (not np.isfinite(expected) or error <= allowed):
        return None, float(error) / float(allowed) if np.isfinite(expected) and allowed else 0.0
    return Mismatch(what, float(expected), float(got), None, float(error), float(allowed), GRADIENT), 0.0


def compare_arrays(
    what: str,
    expected: np.ndarray,
    got: np.ndarray,
    allowed: float | np.ndarray,
    ignore: np.ndarray | None = None,
    zero_is_exact: bool | np.ndarray = True,
) -> tuple[Mismatch | None, float]:
    """(the first Mismatch or None, the largest error / bound). An expected 0 must be observed as exactly 0.

    what: the name of the array. allowed: the largest allowed error, a number or one for each row (..., 1). ignore: True
    at elements of which only the class (NaN, +inf, -inf, finite) is compared. zero_is_exact: True at elements whose
    expected 0 must be exact; False between two measurements, since one of them may underflow to 0 alone.
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
    off, bound_there = float(error[where]), float(limit[where])
    return Mismatch(what, float(expected[where]), float(got[where]), where, off, bound_there, of=(what,)), ratio


def _largest_ratio(error, allowed):
    if not np.ndim(allowed):
        return float(error.max(initial=0.0)) / float(allowed) if allowed else 0.0
    with np.errstate(over="ignore"):
        return float(np.divide(error, allowed, where=allowed > 0, out=np.zeros(error.shape)).max(initial=0.0))


def _classes(array):
    """int array: 1 for NaN, 2 for +inf, 3 for -inf, 0 for finite numbers."""
    if np.isfinite(array).all():
        return np.zeros(array.shape, int)
    return np.select([np.isnan(array), np.isposinf(array), np.isneginf(array)], [1, 2, 3], 0)


def terms(case: Case) -> float:
    """An estimate of the number of roundings, each relative to the size of a result, that add up in one element.

    A score beside a mask of -1e4 is rounded as coarsely as a number of this size, and counts as many roundings. The
    error of the formula in float32 does not always show this: a single score may happen to be rounded by little, and
    beside -1e9 float32 loses all scores, though float64 keeps some of their digits.
    """
    widths = [getattr(case, name, 1) for name in ("S", "T", "L", "D", "E", "dim_feedforward")]
    size = largest_score(case) if computed_in(case) in FULL else 0.0
    return sum(widths) * case.num_layers * (1 + size / 8) ** 2


def contraction(
    gradients: Mapping[str, np.ndarray | None], directions: Mapping[str, np.ndarray]
) -> tuple[float, float]:
    """(sum of <gradient, direction> over all names, square root of the sum of the squares of its terms)

    The sum is the directional derivative. gradients, directions: {name: array of equal shape}; None counts as 0.
    """
    total = squares = 0.0
    for name, direction in directions.items():
        if (gradient := gradients.get(name)) is not None:
            with np.errstate(invalid="ignore", over="ignore"):  # a wrong gradient may hold anything
                products = gradient.astype("float64") * direction
                total += products.sum()
                squares += (products**2).sum()
    return total, sqrt(squares) if np.isfinite(squares) else squares


def weighted(
    weights: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray], part: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """1-D array: all elements of this part of the results times their weights; 0 * NaN counts as 0."""
    with np.errstate(invalid="ignore"):
        products = {name: np.where(by == 0, 0, by * part(results[name])) for name, by in weights.items()}
        return np.concatenate([array.ravel() for array in products.values()])


def norm(array: np.ndarray) -> float:
    """The norm of the finite elements."""
    return float(np.linalg.norm(array[np.isfinite(array)]))
