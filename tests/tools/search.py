"""The search behind bisect.py: where along a line of candidates an answer turns, with as few questions as possible."""

from collections.abc import Callable
from dataclasses import dataclass

SAME, OTHER, UNKNOWN = "same", "other", "unknown"


@dataclass(frozen=True)
class Turn:
    """Between candidates `last` and `first` the answer turns; those between them could not be asked."""

    last: int
    first: int


def turning_point(number, ask: Callable[[int], str]):
    """The Turn among `number` candidates, of which the first is known to be SAME as itself and the last to be OTHER.

    ask: index -> SAME (as the first), OTHER or UNKNOWN; it is never asked twice for one index, and not for the ends.
    Where every answer is known it is asked at most ceil(log2(number - 1)) times. If the answer turns several times,
    one of the turns is found.
    """
    low, high, unknown = 0, number - 1, set()
    while open_ones := [i for i in range(low + 1, high) if i not in unknown]:
        middle = min(open_ones, key=lambda i: abs(2 * i - low - high))
        answer = ask(middle)
        if answer == SAME:
            low = middle
        elif answer == OTHER:
            high = middle
        else:
            unknown.add(middle)
    return Turn(low, high)
