"""The comparison of second derivatives: of the gradients of a sum of gradients (modes of second order)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..cases.case import Case
from ..contents.arrays import coarsest, directions
from . import comparison
from .comparison import SECOND, Mismatch, norm

_LEAST_CHANGE = 1e-5  # of a gradient, that a deviation makes; rounding of float32 masks stays below it

# A second backward pass rounds more often than a first, and in those of layer norms large terms cancel.
_SAFETY = 8.0

Gradients = Mapping[str, np.ndarray]  # {name: array} of each tensor that requires a gradient


@dataclass(frozen=True)
class SecondOrder:
    """The predicted gradients of a case and of their sum along `directions`."""

    case: Case
    first: Gradients
    second: Gradients
    rough: Callable[[], list[Gradients]]  # the second gradients with rounding errors, which are expensive
    size: float  # the norm of the summands of the loss
    slope: float  # the derivative of the loss along `directions`, by the complex step

    @property
    def is_known(self) -> bool:
        """False if a deviation changes gradients in a way that backward.py does not describe.

        False as well for layer norms of two features or fewer: their output is 1 and -1 whatever the input is, and in
        their second derivative all but the rounding errors cancel.
        """
        if self.case.has_layers and self.case.E <= 2:
            return False
        first = _terms(self.first, directions(self.case))
        return bool(abs(first.sum() - self.slope) <= _LEAST_CHANGE * (norm(first) + self.size))

    def compared(
        self, observed: Mapping[str, np.ndarray | None], kinds: tuple[str, ...]
    ) -> tuple[list[Mismatch], list[tuple[str, float]]]:
        """(mismatches, margins) of the derivative along the directions of the derivative along the directions.

        observed: Observation.second_gradients. kinds: prediction.BOUNDS.
        """
        got, spread = comparison.contraction(observed, directions(self.case))
        for kind, allowed in zip(kinds, self.bounds(spread), strict=True):
            mismatch, ratio = comparison.compare_numbers("", sum(self.along().values()), got, allowed)
            if mismatch is None:
                return [], [(kind, ratio)]
        return [self._named(mismatch, observed)], []

    def along(self) -> dict[str, float]:
        """{name: the sum of the second gradient of this tensor, times its direction}"""
        return {name: float((self.second[name] * its).sum()) for name, its in directions(self.case).items()}

    def bounds(self, spread: float = 0.0) -> Iterator[float]:
        """The largest errors that the sum of `along` may have, the cheap bound first.

        spread: the norm of the observed summands.
        """
        along = directions(self.case)
        expected = _terms(self.second, along)
        # The summands of the second derivative, and those of the first and of the loss, since derivatives may cancel.
        size = float(np.linalg.norm([norm(expected), norm(_terms(self.first, along)), spread, self.size]))
        bound = partial(comparison.bound_of_gradient, dtype=coarsest(self.case), terms=comparison.terms(self.case))
        yield _SAFETY * float(bound(0.0, size))
        yield _SAFETY * float(bound(max(norm(_terms(its, along) - expected) for its in self.rough()), size))

    def _named(self, mismatch, observed):
        """The mismatch with the names of the arguments whose second gradients are wrong."""
        wrong, along = [], self.along()
        for name, expected in along.items():
            got, _ = comparison.contraction(observed, {name: directions(self.case)[name]})
            if not abs(got - expected) <= mismatch.bound:
                wrong.append(name)
        what = f"second gradient of {', '.join(wrong or along)}, in the drawn direction"
        return replace(mismatch, what=what, kind=SECOND, of=tuple(wrong or along))


def _terms(gradients, along):
    return np.concatenate([(gradients[name] * direction).ravel() for name, direction in along.items()])
