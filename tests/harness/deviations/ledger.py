"""The known deviations: for each, which cases it affects in which releases, and what they do instead.

model of a release = reference + its deviations. A deviation predicts; it excuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Applied:
    """An entry that changes a case: change is computation -> computation."""

    id: str
    change: Callable


def applying(call, entries):
    """The deviations of this call (call.Call), in the order in which they compose.

    entries: those that concern the release.
    """
    met = call.met
    asked = (entry for entry in entries if entry.pinned.attends == call.case.attends)
    return tuple(Applied(entry.id, partial(entry.change, call=met)) for entry in asked if entry.applies(met))
