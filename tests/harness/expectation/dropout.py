"""Dropout repeated: what torch drops is random, but seen, and the reference drops the same and scales what is kept."""

from dataclasses import dataclass, replace
from math import log

import numpy as np

from ..cases.case import Case, ScaledDotProduct
from ..cases.dtypes import PRECISIONS
from ..contents.results import as_held
from ..modes.modes import computed_in
from .changes import with_kernel, with_layers

_EVERY_ATTENTION = ("self", "src", "tgt", "memory")


_IMPROBABLE = 1e-18  # of which a run of a million calls never sees one


class UnlikeDropout(Exception):
    """Nothing that dropout may do. what: of which it is told; expected, got: of this."""

    def __init__(self, what, expected, got):
        super().__init__(what, expected, got)
        self.what, self.expected, self.got = what, expected, got


def dropping(computation, case, kept):
    """The computation of the case, under dropout. It may raise UnlikeDropout.

    kept: for each dropout, in order, a bool array of what torch has not dropped, in torch's shape. What was 0 before
    may count as either.
    """
    return replace(computation, function=_Dropping(computation, case, kept))


@dataclass(frozen=True)
class _Dropping:
    """The function of the computation, whose arguments it is called with."""

    computation: object
    case: Case
    kept: tuple

    def __call__(self, **arguments):
        left = list(self.kept)

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
            _require_plausible(x, kept, self.case.dropout)
            may_be_kept = kept | (np.abs(x.real) < PRECISIONS[computed_in(self.case)].tiny)  # and 0 by itself
            return x / (1 - self.case.dropout) * may_be_kept  # as torch has it: going back, NaN times 0 is NaN

        result = self._with_dropout(drop, arguments)
        if left and self.case.dropout < 1:
            raise UnlikeDropout("dropout", f"{len(self.kept) - len(left)} times", f"{len(self.kept)} times")
        return result

    def _with_dropout(self, drop, arguments):
        """The result, where weights of attention are dropped, and what layers drop."""

        def kernel(former):
            def attend(query, key, value, bias, scale):
                context, weights = former(query, key, value, bias, scale)
                weights = drop(weights)
                return np.where(np.isnan(context), context, weights @ value), weights  # what is NaN stays so

            return attend

        def change(layer, _):
            return replace(layer, dropout=lambda x: drop(x, as_torch_holds=True))

        computation = replace(self.computation, arguments=arguments)
        if not isinstance(self.case, ScaledDotProduct):
            computation = replace(computation, function=with_layers(computation.function, change))
        computation = with_kernel(computation, kernel, _EVERY_ATTENTION)
        return computation.function(**computation.arguments)


def _require_plausible(x, kept, p):
    """True if about a share of 1 - p is kept, by the inequality of Hoeffding (1963): each is kept by itself."""
    size = np.abs(x.real)
    counts = size > 1e-3 * size.max(initial=0)  # what is less may have become 0 by itself
    number = counts.sum()
    if not number:
        return
    share, allowed = kept[counts].mean(), np.sqrt(log(2 / _IMPROBABLE) / (2 * number))
    if abs(share - (1 - p)) > allowed:
        raise UnlikeDropout(
            f"share kept by dropout of {number}", f"{1 - p:.3g} to within {allowed:.2g}", f"{share:.3g}"
        )
