"""An entry of the ledger of wrong masks."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.version import Version

from ..deviations.entry import Entry
from ..execution.release import Release
from ..expectation.specification import Computation
from ..judgement.outcomes import ACCEPTS
from .outcome import Outcome
from .remedies import WrongMaskRemedy
from .results import NOTHING_COMPARED, Comparison, compare
from .table import WrongCall, not_applicable


@dataclass(frozen=True)
class WrongMaskDeviation(Entry):
    """An entry of the ledger of wrong masks."""

    instead: str  # the predicted kind of outcome: ACCEPTS or UNHELPFUL
    effect: str  # the result or the error, in words
    applies: Callable[[WrongCall, Release], bool]  # in an affected release
    message: str = ""  # a regular expression of the error, if UNHELPFUL
    change: Callable[[Computation, WrongCall], Computation] | None = None  # makes the predicted computation, if ACCEPTS
    remedies: Sequence[WrongMaskRemedy] = field(default=(), kw_only=True)  # the cheapest first

    clause = 9  # number of the clause that the deviation breaks

    def __post_init__(self):
        if (self.instead == ACCEPTS) != (self.change is not None):
            raise ValueError(f"{self.id}: an entry must have a change if instead is ACCEPTS, and only then")

    def predicts(self, call: WrongCall, release: Release) -> bool:
        """True if the entry predicts the outcome of the call on the release."""
        return self.concerns(release) and self.applies(call, release) and not not_applicable(call, release)

    def compared(self, call: WrongCall, outcome: Outcome) -> Comparison | None:
        """The comparison of the outcome with the prediction; None if its kind or its message differs."""
        if outcome.kind != self.instead or re.search(self.message, outcome.error) is None:
            return None
        return compare(call, outcome, self.change) if self.instead == ACCEPTS else NOTHING_COMPARED

    def shows(self, call: WrongCall, outcome: Outcome) -> bool:
        """True if the outcome is as predicted: its kind, and its message or result."""
        compared = self.compared(call, outcome)
        return compared is not None and not compared.mismatches


@dataclass(frozen=True)
class Reach:
    """A change of the rows to which an entry applies: since a release, some rows are as in another release."""

    id: str  # of the entry
    first: str  # the first release
    version: str | None  # the entry applies as in this release; None if it no longer applies to these rows
    when: Callable[[WrongCall], Any] = lambda call: True  # truthy for the rows


def altered(entry: WrongMaskDeviation, reaches: Iterable[Reach]) -> WrongMaskDeviation:
    """The entry with those of the reaches that are its own."""
    its = [reach for reach in reaches if reach.id == entry.id]
    if not its:
        return entry

    def applies(call: WrongCall, release: Release) -> bool:
        for reach in its:
            if release.version.release >= Version(reach.first).release and reach.when(call):
                if reach.version is None:
                    return False
                return entry.applies(call, replace(release, version=Version(reach.version)))
        return entry.applies(call, release)

    return replace(entry, applies=applies)
