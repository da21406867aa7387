"""Simple outcomes of wrong calls, which explanation/ tries on unexplained rows. proposed.py names them in entries."""

from collections.abc import Callable
from dataclasses import dataclass

from ..expectation.changes import with_masks
from ..expectation.specification import Computation
from .entry import WrongMaskDeviation
from .outcome import Outcome
from .results import argument
from .table import WrongCall


@dataclass(frozen=True)
class Expected:
    """A simple outcome of wrong calls."""

    text: str  # in words
    code: str  # keyword arguments of a WrongMaskDeviation that predicts it
    instead: str
    message: str = ""
    change: Callable[[Computation, WrongCall], Computation] | None = None

    def predicts(self, call: WrongCall, outcome: Outcome) -> bool:
        """True if the outcome is this one."""
        entry = WrongMaskDeviation("", "", "", "", self.instead, "", lambda *_: True, self.message, self.change)
        return entry.shows(call, outcome)


def ignored(computation: Computation, call: WrongCall) -> Computation:
    """The computation without the wrong mask."""
    return with_masks(computation, {argument(call, call.argument): None})
