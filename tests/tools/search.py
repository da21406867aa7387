"""The search of bisect.py: finds the candidate at which an answer changes, with as few questions as possible."""

from collections.abc import Callable
from dataclasses import dataclass

SAME, OTHER, UNKNOWN = "same", "other", "unknown"


@dataclass(frozen=True)
class Turn:
    """A change of the answer between two candidates. The answers for candidates between them are UNKNOWN."""

    last: int  # index of the last candidate with the old answer
    first: int  # index of the first candidate with the new answer


def turning_point(number: int, ask: Callable[[int], str]) -> Turn:
    """A change of the answer among `number` candidates. The last candidate must differ from the first.

    ask: index -> SAME (the answer of the first candidate), OTHER or UNKNOWN. It is called at most once for an index,
    and never for the first and last. Without UNKNOWN, it is called at most ceil(log2(number - 1)) times. If the answer
    changes several times, one of the changes is found.
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
