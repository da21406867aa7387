"""Explains a group of failing cases.

In this order: an entry of the ledger that has gone, one that has come, one that applies to other calls, two of these at
once, an entry under a looser condition, a simple behaviour (deviations/behaviours.py). An edit that leaves results open
comes last. It must predict the calls of the group, and calls drawn in their neighbourhood. Calls that no edit explains
are new.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from packaging.version import Version

from ..cases.case import Case
from ..execution.implementation import Adopted
from .candidates import changed, stages
from .edits import Edits
from .explanation import NEW, Explanation, Part
from .neighbours import neighbours
from .search import Search
from .sight import Model, Sight, sighted

_MOST_CALLS = 20  # of a group that are tried
_MOST_NEIGHBOURS = 12


def explain(
    cases: Sequence[Case],
    model: Model,
    shown: Collection[str] = (),
    until: Version | None = None,
    device: str = "cpu",
    adopted: Adopted | None = None,
    firsts: Mapping[Case, Case] | None = None,
) -> Explanation:
    """The explanation of all cases at once.

    shown: ids of entries that other calls of the run still show. until: the latest release whose conditions are known.
    firsts: see `sighted`.
    """
    sights = _failing(cases, model, device, adopted, firsts)
    if not sights:
        return _NOT_AGAIN
    return _search(sights, model, shown, until, device, adopted).whole() or Explanation(NEW)


def explained_parts(
    cases: Sequence[Case],
    model: Model,
    shown: Collection[str] = (),
    until: Version | None = None,
    device: str = "cpu",
    adopted: Adopted | None = None,
    firsts: Mapping[Case, Case] | None = None,
) -> tuple[Part, ...]:
    """The cases, split so that each part has one explanation. Arguments: see `explain`."""
    sights = _failing(cases, model, device, adopted, firsts)
    parts = _search(sights, model, shown, until, device, adopted).parts()
    told = {case for part in parts for case in part.calls}
    others = tuple(case for case in cases if case not in told)
    return (*parts, *[Part(others, _NOT_AGAIN)] * bool(others))


_NOT_AGAIN = Explanation(NEW, note="calls that do not fail again, or are too many to try")


def _failing(cases, model, device, adopted, firsts):
    """The smallest cases that fail when they run again."""
    chosen = sorted(dict.fromkeys(cases), key=lambda case: len(repr(case)))[:_MOST_CALLS]
    return [sight for sight in sighted(chosen, model, device, adopted, firsts) if not sight.is_predicted(Edits())]


def _search(sights, model, shown, until, device, adopted):
    def around(part: Sequence[Sight]) -> list[Sight]:
        """Most neighbours are those of the smallest call, the others of the largest."""
        near = [*list(neighbours(part[0].case, model.release))[:_MOST_NEIGHBOURS]]
        near += list(neighbours(part[-1].case, model.release))[:3]
        return sighted(list(dict.fromkeys(near)), model, device, adopted)

    return Search(
        sights,
        partial(stages, model=model, until=until),
        partial(changed, model=model, shown=frozenset(shown)),
        around,
    )
