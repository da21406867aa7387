"""Dropout repeated: the reference drops the elements that torch was seen to drop, and scales the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np

from ..cases.case import Case
from ..cases.dtypes import PRECISIONS
from ..contents.results import as_held
from ..modes.modes import computed_in
from .changes import with_kernel, with_layers
from .specification import Computation

_EVERY_ATTENTION = ("self", "src", "tgt", "memory")
_IMPROBABLE = 1e-18  # a run of a million calls never meets an event this rare


class UnlikeDropout(Exception):
    """Raised if torch's dropout cannot be explained. what: the name of a quantity; expected, got: its values."""

    def __init__(self, what: str, expected: str, got: str):
        super().__init__(what, expected, got)
        self.what, self.expected, self.got = what, expected, got


def dropping(computation: Computation, case: Case, kept: Sequence[np.ndarray]) -> Computation:
    """The computation of the case under dropout. Running it raises UnlikeDropout if `kept` is implausible.

    kept: for each dropout, in order, a bool array in torch's shape, True at the elements that torch kept. Elements
    that were 0 before the dropout may have either value.
    """
    return replace(computation, function=_Dropping(computation, case, kept))


@dataclass(frozen=True)
class _Dropping:
    """The function of a computation under dropout, called with the arguments of the computation."""

    computation: Computation  # without dropout
    case: Case
    kept: Sequence[np.ndarray]  # see `dropping`

    def __call__(self, **arguments):
        left, earlier = list(self.kept), []

        def drop(x, as_torch_holds=False):
            if self.case.dropout == 1:
                return 0 * x
            if not left:
                raise UnlikeDropout("dropout", "one more", f"{len(self.kept)} times")
            kept = left.pop(0)
            kept = as_held(self.case, "query", kept) if as_torch_holds else kept
            if kept.size != x.size:
                raise UnlikeDropout("dropout", f"of {x.shape}", f"of {kept.shape}")
            kept = kept.reshape(x.shape)
            counts = _counts(x) & (
                not self.case.holds_nan
            )  # NaN, which may be here in torch alone, is not seen to drop
            _require_plausible(kept, counts, self.case.dropout)
            _require_independent(kept, counts, earlier, self.case.dropout)
            earlier.append((kept, counts))
            # Elements this small may be 0 in torch, dropped or not.
            may_be_kept = kept | (np.abs(x.real) < PRECISIONS[computed_in(self.case)].tiny)
            return x / (1 - self.case.dropout) * may_be_kept  # a product, as in torch: NaN * 0 stays NaN

        result = self._with_dropout(drop, arguments)
        if left and self.case.dropout < 1:
            raise UnlikeDropout("dropout", f"{len(self.kept) - len(left)} times", f"{len(self.kept)} times")
        return result

    def _with_dropout(self, drop, arguments):
        """The result with dropout of the attention weights, and in each layer."""

        def kernel(former):
            def attend(query, key, value, bias, scale):
                context, weights = former(query, key, value, bias, scale)
                weights = drop(weights)
                return np.where(np.isnan(context), context, weights @ value), weights  # NaN stays NaN

            return attend

        def change(layer, _):
            return replace(layer, dropout=lambda x: drop(x, as_torch_holds=True))

        computation = replace(self.computation, arguments=arguments)
        if self.case.has_layers:
            computation = replace(computation, function=with_layers(computation.function, change))
        computation = with_kernel(computation, kernel, _EVERY_ATTENTION)
        return computation.function(**computation.arguments)


def _counts(x):
    """bool array: True at elements large enough that a 0 shows that they were dropped, not rounded."""
    size = np.abs(x.real)
    return size > 1e-3 * size.max(initial=0)


def _require_plausible(kept, counts, p):
    """Raise UnlikeDropout unless about a share of 1 - p is kept, by the inequality of Hoeffding (1963).

    Elements are dropped independently of each other. counts: see _counts.
    """
    number = counts.sum()
    if not number:
        return
    share, allowed = kept[counts].mean(), np.sqrt(log(2 / _IMPROBABLE) / (2 * number))
    if abs(share - (1 - p)) > allowed:
        raise UnlikeDropout(
            f"share kept by dropout of {number}", f"{1 - p:.3g} to within {allowed:.2g}", f"{share:.3g}"
        )


def _require_independent(kept, counts, earlier, p):
    """Raise UnlikeDropout if samples, heads or rows are dropped alike, or as by an earlier dropout, beyond chance.

    earlier: pairs (kept, counts) of the earlier dropouts of the call.
    """
    of_chance = log(p**2 + (1 - p) ** 2)  # of the probability that two elements are both kept, or both dropped
    if counts.sum() * of_chance > log(_IMPROBABLE):
        return
    pairs = [(its, kept, its_counts & counts) for its, its_counts in earlier if its.shape == kept.shape]
    for axis in range(kept.ndim):
        first, others = ((*[slice(None)] * axis, part) for part in (slice(1), slice(1, None)))
        pairs.append((kept[first], kept[others], counts[first] & counts[others]))
    for one, other, both in pairs:
        if both.sum() * of_chance < log(_IMPROBABLE) and (one == other)[both].all():
            raise UnlikeDropout("dropout", "of other elements each time", "of the same")
