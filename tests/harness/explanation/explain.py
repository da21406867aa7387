"""Explains a group of failing cases.

In this order: an entry of the ledger that has gone, one that has come, one that applies to other calls, two of these at
once, an entry under a looser condition, a simple behaviour (deviations/behaviours.py). An edit that leaves results open
comes last. It must predict the calls of the group, and calls drawn in their neighbourhood. Calls that no edit explains
are new.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from packaging.version import Version

from ..cases.case import Case
from ..execution.implementation import Adopted
from .candidates import changed, stages, view_of
from .edits import Edits
from .explanation import NEW, Explanation, Part
from .neighbours import is_costly, neighbours
from .search import Search
from .sight import Model, Sight, sighted

_MOST_CALLS = 20  # of a group that are tried
_MOST_NEIGHBOURS = 12


@dataclass(frozen=True)
class Options:
    """The circumstances of a search for explanations."""

    shown: Collection[str] = ()  # ids of entries that other calls of the run still show
    until: Version | None = None  # the latest release whose conditions are known; None for all
    device: str = "cpu"
    adopted: Adopted | None = None  # is measured in place of nn.MultiheadAttention, if any
    firsts: Mapping[Case, Case] = field(default_factory=dict)  # see `sighted`
    # Edits that explain other groups. They are tried first; those that explain a part are added.
    suspects: list[Edits] = field(default_factory=list)


def explain(cases: Sequence[Case], model: Model, options: Options | None = None) -> Explanation:
    """The explanation of all cases at once; of kind NEW if there is none."""
    options = options or Options()
    sights = _failing(cases, model, options)
    return (_search(sights, model, options).whole() or Explanation(NEW)) if sights else _NOT_AGAIN


def explained_parts(cases: Sequence[Case], model: Model, options: Options | None = None) -> tuple[Part, ...]:
    """The cases, split so that each part has one explanation."""
    options = options or Options()
    parts = _search(_failing(cases, model, options), model, options).parts()
    told = {case for part in parts for case in part.calls}
    others = tuple(case for case in cases if case not in told)
    return (*parts, *[Part(others, _NOT_AGAIN)] * bool(others))


def shows(case: Case, explanation: Explanation, model: Model, options: Options | None = None) -> bool:
    """True if the case, run again, shows each of the changed entries, and they predict it.

    explanation: one by changes of entries alone.
    """
    options = options or Options()
    views = {its.id: view_of(its, model) for its in explanation.changed}
    (sight,) = set_apart(sighted([case], model, options.device, options.adopted, options.firsts))
    without = [Edits({id: view for id, view in views.items() if id != left}) for left in views]
    return sight.is_predicted(Edits(views)) and not any(map(sight.is_predicted, without))


_NOT_AGAIN = Explanation(NEW, note="calls that do not fail again, or are too many to try")


def _failing(cases, model, options):
    """The smallest cases that fail when they run again."""
    chosen = sorted(dict.fromkeys(cases), key=lambda case: len(repr(case)))[:_MOST_CALLS]
    sights = sighted(chosen, model, options.device, options.adopted, options.firsts)
    return set_apart([sight for sight in sights if not sight.is_predicted(Edits())])


def set_apart(sights: Sequence[Sight]) -> list[Sight]:
    """The sights, without the side effects that are changes of their own where the call fails without them, too."""
    apart = [sight.apart() if sight.model.side_effects else sight for sight in sights]
    pairs = zip(sights, apart, strict=True)
    return [sight if its.is_predicted(Edits()) else its for sight, its in pairs]


def _search(sights, model, options):
    def around(part: Sequence[Sight]) -> list[Sight]:
        """Most neighbours are those of the smallest call, the others of the largest, unless it makes an artifact."""
        near = list(neighbours(part[0].case, model.release))[:_MOST_NEIGHBOURS]
        if not is_costly(part[-1].case):
            near += list(neighbours(part[-1].case, model.release))[:3]
        drawn = sighted(list(dict.fromkeys(near)), model, options.device, options.adopted)
        return [sight.apart() for sight in drawn] if part[0].is_apart else drawn

    edits = partial(stages, model=model, until=options.until)
    changes = partial(changed, model=model, shown=options.shown)
    return Search(sights, edits, changes, around, options.suspects)
