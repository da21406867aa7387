"""An entry of the ledger of wrong masks."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..execution.release import Release
from ..execution.setting import ON_CPU
from ..expectation.specification import Computation
from .outcome import Outcome
from .remedies import (
    WrongMaskRemedy,
)
from .results import NOTHING_COMPARED, Comparison, compare
from .table import ACCEPTS, WrongCall, not_applicable


@dataclass(frozen=True)
class WrongMaskDeviation:
    """An entry of the ledger of wrong masks."""

    id: str
    title: str
    affects: str  # the releases, as a version specifier
    upstream: str  # "pytorch/pytorch#N", or "not found"
    instead: str  # the predicted kind of outcome: ACCEPTS or UNHELPFUL
    effect: str  # the result or the error, in words
    applies: Callable[[WrongCall, Release], bool]  # in an affected release
    message: str = ""  # a regular expression of the error, if UNHELPFUL
    change: Callable[[Computation, WrongCall], Computation] | None = None  # makes the predicted computation, if ACCEPTS
    devices: tuple[str, ...] = ON_CPU  # types of the devices that show the deviation
    remedies: tuple[WrongMaskRemedy, ...] = ()  # the cheapest first

    def __post_init__(self):
        if (self.instead == ACCEPTS) != (self.change is not None):
            raise ValueError(f"{self.id}: an entry must have a change if instead is ACCEPTS, and only then")

    def concerns(self, release: Release) -> bool:
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)

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
