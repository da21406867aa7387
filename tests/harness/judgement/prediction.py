"""The prediction of one case by the model of a release, with the error bound of each result."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.derivative import complex_of, derivative, displaced

from ..cases.case import Case, drops
from ..cases.dtypes import LOW
from ..contents.arrays import GARBAGE, directions, inputs, merged_in, parameters
from ..contents.packing import packs
from ..contents.results import cotangents, garbage_rows, present
from ..expectation import backward
from ..expectation.backward import PLAIN, BackwardPass
from ..expectation.changes import coarse, multiplied, with_linear
from ..expectation.dropout import dropping
from ..expectation.specification import Computation, specification
from ..modes.modes import BY_ID, computed_in
from . import comparison
from .second_order import SecondOrder

if TYPE_CHECKING:
    from ..deviations.ledger import Applied

# "plain" uses condition = 0 in the formula of comparison.py. "full" measures the condition, which is expensive, and is
# computed only if the plain bound is exceeded.
BOUNDS = ("plain", "full")

Arrays = dict[str, np.ndarray]  # {name: array}
Part = Callable[[np.ndarray], np.ndarray]  # of complex arrays: np.real or derivative

_MIDDLE = 2**-10  # of two levels in eight bits, in steps: numbers as near to it may be rounded either way
_LARGEST_STEP = 1e-9  # a complex step whose square is lost beside 1 in float64


def predict(
    case: Case,
    deviations: "Sequence[Applied]" = (),
    dtype: str = "float64",
    displace: Collection[str] = (),
    kept: Sequence[np.ndarray] | None = (),
    move: Callable[[str, np.ndarray, np.ndarray], np.ndarray] | None = None,
    finish: Callable[[Computation], Computation] | None = None,
) -> Computation:
    """The computation of the release: the specification, changed by each deviation in turn.

    dtype, displace, move: see `specification`. kept: the elements that torch's dropout kept (Observation.kept); None
    to compute without dropout. finish: a last change, before dropout is added.
    """
    computation = specification(case, dtype, displace, move)
    for deviation in deviations:
        computation = deviation.change(computation)
    computation = multiplied(computation) if deviations and case.attends and not case.is_flex else computation
    computation = finish(computation) if finish else computation
    return dropping(computation, case, kept) if drops(case) and kept is not None else computation


@dataclass(frozen=True)
class Prediction:
    """The predicted results and gradients of a case, with the error bound of each.

    If the case differentiates, results are complex and carry a derivative in their imaginary part (derivative.py).
    """

    case: Case
    deviations: "Sequence[Applied]" = ()
    kept: Sequence[np.ndarray] | None = ()  # Observation.kept; None to compute without dropout
    served: tuple = ()  # Observation.served
    backward_pass: BackwardPass = PLAIN
    # {name of a differentiated tensor: True at elements that are held constant}
    still: Mapping = field(default_factory=dict)

    def _computation(self, dtype, finish=None):
        moving = tuple(directions(self.case))
        return predict(self.case, self.deviations, dtype, moving, self.kept, self._move if self.still else None, finish)

    def _move(self, name, array, direction):
        direction = np.where(self.still.get(name, False), 0, direction)
        return displaced(array, direction.astype(array.dtype))

    @cached_property
    def computation(self) -> Computation:
        """The predicted computation, in float64."""
        return self._computation("float64")

    @property
    def shown(self) -> tuple[str, ...]:
        """The ids of the deviations that can be observed: an error hides all others but a later error."""
        shown: tuple[str, ...] = ()
        computation = specification(self.case)
        for deviation in self.deviations:
            changed = deviation.change(computation)
            if changed is computation:
                continue
            if changed.error != computation.error:
                shown = (deviation.id,)
            elif changed.error is None:
                shown += (deviation.id,)
            computation = changed
        return shown

    @cached_property
    def _moved(self):
        return self._present(self.computation)

    @cached_property
    def _plain(self):
        """The predicted results in float64, without derivatives."""
        return self._present(predict(self.case, self.deviations, kept=self.kept))

    @cached_property
    def is_steep(self) -> bool:
        """True if a derivative is so large that the square of its complex step counts (reference/derivative.py).

        Or that it overflows, which makes NaN of results that it meets.
        """
        steps = (np.abs(np.imag(array)) for array in self._moved.values())
        if any(np.max(step, where=np.isfinite(step), initial=0.0) > _LARGEST_STEP for step in steps):
            return True
        spoilt = {name: np.isnan(array.real) for name, array in self._moved.items() if np.iscomplexobj(array)}
        return any(np.any(its & ~np.isnan(self._plain[name])) for name, its in spoilt.items() if its.any())

    @cached_property
    def exact(self) -> Arrays:
        """The predicted results in float64, complex if the case differentiates."""
        if not self.is_steep:
            return self._moved
        return {name: complex_of(self._plain[name], np.imag(array)) for name, array in self._moved.items()}

    @cached_property
    def rough(self) -> list[Arrays]:
        """The predicted results with rounding errors: in float32 or a low precision, and on perturbed inputs.

        Inputs are perturbed by about one rounding. There are four evaluations, since a single one may have a small
        error by chance. They are expensive, and needed only for the full bound.
        """
        dtype = computed_in(self.case)
        computation = self._computation(comparison.rough(dtype))
        moved = computation if dtype in LOW else self.computation  # a low precision also rounds in between
        generators = (np.random.default_rng([self.case.seed, 3, step]) for step in range(3))
        size = comparison.roundoff(dtype) * (2 if dtype in LOW else 1)  # a smaller move would be lost to rounding
        nearby = (self._nearby(moved, rng, size) for rng in generators)
        return [self._present(its) for its in (computation, *nearby)]

    @cached_property
    def _coarse(self) -> list[Arrays]:
        """The predicted results with scores of few digits, in two ways, if a low precision meets garbage.

        Scores of garbage are so large that a rounding decides which of two keys is seen. One of the two ways makes a
        tie of two scores that differ by two roundings of their products each.
        """
        dtype = computed_in(self.case)
        if not (self.case.garbage and dtype in LOW):
            return []
        low, size = comparison.rough(dtype), 4 * comparison.roundoff(dtype)
        changes = (partial(coarse, size=size, shift=shift) for shift in (0, 0.5))
        return [self._present(self._computation(low, change)) for change in changes]

    @cached_property
    def _rounded_otherwise(self) -> list[Arrays]:
        """The predicted results if quantized layers round each number near the middle of two levels up, or down."""
        if not (BY_ID[self.case.mode].quantizes and self.case.has_layers):
            return []
        nudges = product((-_MIDDLE, _MIDDLE), repeat=2)
        nudged = [partial(replace, nudge=nudge, nudge_of_zero=other) for nudge, other in nudges]
        return [self._present(with_linear(self.computation, change)) for change in nudged]

    def _nearby(self, computation, rng, size):
        """The computation with each element of its inputs moved at random, by a relative error of at most `size`."""
        arguments = dict(computation.arguments)
        for name in filter(arguments.__contains__, inputs(self.case)):  # a fixed order gives all processes equal bounds
            with np.errstate(invalid="ignore"):  # contents may be NaN or inf
                arguments[name] = arguments[name] * (1 + size * rng.uniform(-1, 1, np.shape(arguments[name])))
        return replace(computation, arguments=arguments)

    def _present(self, computation):
        results = present(self.case, computation())
        return {name: array for name, array in results.items() if name not in computation.lost}

    @cached_property
    def cotangents(self) -> Arrays:
        """{result name: array}: the weight of each element in the loss; 0 for an element that is NaN."""
        weights = cotangents(self.case, {name: array.shape for name, array in self.exact.items()})
        return {name: np.where(np.isnan(self.exact[name].real), 0, array) for name, array in weights.items()}

    @cached_property
    def gradients(self) -> Arrays:
        """{name: array}: the gradients of the loss by a backward pass, which may be NaN (backward.py)."""
        return self._backward(lambda array, direction: array, lambda computation: computation)

    def _backward(self, move, change, dtype="float64"):
        """The gradients of the loss at moved arguments. move: (array, direction) -> array. dtype: of the arithmetic."""
        leaves = {}

        def trace(name, array, direction):
            return leaves.setdefault(name, backward.Traced(move(array, direction)))

        def finish(computation):
            computation = change(computation)
            return backward.traced(computation, self.case, self.served, self.backward_pass)

        moving = tuple(directions(self.case))
        computation = predict(self.case, self.deviations, dtype, moving, self.kept, trace, finish)
        results = self._present(computation)
        with np.errstate(all="ignore"):
            return backward.gradients(results, self.cotangents, leaves)

    @property
    def second_order(self) -> SecondOrder:
        """The gradients, and the gradients of the derivative along `directions`."""
        second = self._second_gradients(lambda computation: computation)
        size = comparison.norm(comparison.weighted(self.cotangents, self.exact, np.real))
        slope = comparison.weighted(self.cotangents, self.exact, derivative).sum()
        return SecondOrder(self.case, self.gradients, second, self._rough_second_gradients, size, slope)

    def _rough_second_gradients(self):
        """Second gradients with rounding errors: in float32, and on perturbed inputs (see `rough`)."""
        dtype = computed_in(self.case)
        generators = (np.random.default_rng([self.case.seed, 3, step]) for step in range(3))
        nearby = [partial(self._nearby, rng=rng, size=comparison.roundoff(dtype)) for rng in generators]
        rounded = self._second_gradients(lambda computation: computation, comparison.rough(dtype))
        return [rounded, *map(self._second_gradients, nearby)]

    def _second_gradients(self, change, dtype="float64"):
        return {name: derivative(array) for name, array in self._backward(displaced, change, dtype).items()}

    @cached_property
    def garbage(self) -> Mapping[str, np.ndarray | None]:
        """{result name: True in rows whose query is garbage, or None}: see garbage_rows."""
        ignores = self.computation.ignores_garbage
        return dict.fromkeys(self.exact) if ignores else garbage_rows(self.case, self.exact)

    @cached_property
    def shows_garbage(self) -> bool:
        """True if deviations make hidden garbage visible: rows that are not garbage themselves are as large."""
        if not (self.case.garbage and self.deviations):
            return False
        limit = GARBAGE[computed_in(self.case)] / 64
        for name, array in self.exact.items():
            is_garbage: Any = False if self.garbage[name] is None else self.garbage[name]
            counts = np.isfinite(array.real) & ~np.broadcast_to(is_garbage, array.shape)
            if np.max(np.abs(array.real), where=counts, initial=0.0) > limit:
                return True
        return False

    @property
    def cannot_conform(self) -> bool:
        """True if an error, a warning, a missing result or NaN differs from any specification of the case.

        The specification then need not be evaluated.
        """
        if self.computation.error or self.computation.warnings or self.computation.lost:
            return True
        return not self.case.holds_nan and any(np.isnan(array).any() for array in self.exact.values())

    def bounds(self, name: str, part: Part = np.real, by_row: bool = False) -> Iterator[Any]:
        """The largest allowed errors, in the order of BOUNDS.

        part: np.real for the result, `derivative` for its tangent. by_row: one bound for each row, garbage or not.
        """
        exact, ignore = part(self.exact[name]), None if by_row else self.garbage[name]
        # tangents of masks are added in the dtype of the masks, as these are
        dtype = merged_in(self.case) if part is derivative else computed_in(self.case)
        terms = comparison.terms(self.case)
        bound = partial(comparison.bound, dtype=dtype, terms=terms, ignore=ignore, by_row=by_row)
        moved: Any = 0.0  # the terms that cancel in a derivative are as large as the result
        if part is derivative:
            moved = bound(*[np.real(self.exact[name])] * 2)
        elif name == "output":
            moved = comparison.allowance(dtype, 0.0, self._bias_of_one_feature, 0.0)
        yield moved + bound(exact, exact)
        rough = [*self.rough, *(self._coarse if by_row else [])]
        errors: list[Any] = [bound(exact, part(its[name])) for its in rough]
        either: Any = [comparison.distance(exact, part(its[name]), ignore, by_row) for its in self._rounded_otherwise]
        yield moved + np.max(errors, axis=0) + np.sum(either, axis=0)

    @property
    def _bias_of_one_feature(self):
        """The size of the last bias in a low precision, if the result has one feature: it may cancel the product.

        With more features, the largest of them shows by how much a result may be off.
        """
        if computed_in(self.case) not in LOW or getattr(self.case, "E", 0) != 1:
            return 0.0
        return float(np.abs(parameters(self.case).get("out_proj.bias", 0.0)).max())

    def is_zero(self, name: str, part: Part = np.real) -> np.ndarray:
        """bool array: True at elements that are exactly 0, also on perturbed inputs: a sum may be 0 by chance.

        A derivative counts as 0 only if the result is 0, too.
        """
        zeros = [part(its[name]) == 0 for its in (self.exact, *self.rough)]
        return np.all([np.real(self.exact[name]) == 0, *zeros], axis=0)

    def bounds_of_garbage(self, name: str) -> Iterator[tuple[str, Any, np.ndarray, np.ndarray]]:
        """For each of BOUNDS: (kind, allowed errors (..., 1), only_class, is_zero), for rows whose query is garbage.

        only_class: a bool array, True at elements of which only the class is compared: in other rows, in all rows if
        the mode drops padding, and in rows that are decided by rounding. is_zero: a bool array, True at an exact 0.
        """
        expected = self.exact[name].real
        rows: Any = self.garbage[name]
        ignore = ~np.broadcast_to(rows, expected.shape) | packs(self.case)
        for kind, allowed in zip(BOUNDS, self.bounds(name, by_row=True), strict=True):
            is_zero = expected == 0
            if kind == BOUNDS[1]:
                is_zero = self.is_zero(name)
                undetermined = comparison.is_undetermined(expected, allowed, computed_in(self.case))
                ignore = ignore | (undetermined & ~is_zero.all(axis=-1, keepdims=True))
            yield kind, allowed, ignore, is_zero


def bounds(
    case: Case,
    name: str,
    part: Callable[[np.ndarray], np.ndarray] = np.real,
    kept: Sequence[np.ndarray] | None = (),
) -> Iterator[float | np.ndarray]:
    """The largest errors that a specified result, or its tangent, may have, in the order of BOUNDS.

    name: of the result. part: np.real for the result, reference.derivative.derivative for its tangent. kept: see
    `predict`.
    """
    return Prediction(case, kept=kept).bounds(name, part)


def second_order(case: Case, kept: Sequence[np.ndarray] | None = ()) -> SecondOrder | None:
    """The specified gradients and second gradients; None if they are not known. kept: see `predict`."""
    prediction = Prediction(case, kept=kept)
    if any(np.isnan(array).any() for array in prediction.exact.values()):
        return None
    return found if (found := prediction.second_order).is_known else None


def is_zero(
    case: Case,
    name: str,
    part: Callable[[np.ndarray], np.ndarray] = np.real,
    kept: Sequence[np.ndarray] | None = (),
) -> np.ndarray:
    """bool array: True at elements that the specification makes exactly 0. Arguments: see `bounds`."""
    return Prediction(case, kept=kept).is_zero(name, part)


def bounds_of_garbage(case: Case, name: str, kept: Sequence[np.ndarray] | None = ()) -> tuple[np.ndarray, np.ndarray]:
    """(allowed errors (..., 1), only_class) for the rows whose query is garbage, by the specification.

    only_class: a bool array, True at elements of which only the class (NaN, +inf, -inf, finite) is compared. The full
    bound is returned. name, kept: see `bounds`.
    """
    *_, (_, allowed, ignore, _) = Prediction(case, kept=kept).bounds_of_garbage(name)
    return allowed, ignore
