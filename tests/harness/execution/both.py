"""What two processes observed of the call that they made together, as one observation."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..modes.pairs import end

if TYPE_CHECKING:
    from .runner import Observation

_OF_EITHER = ("warnings", "mutated", "lent", "settings", "attached")


def of_both(one: "Observation", other: "Observation") -> "Observation":
    """The observation of the first process, with the warnings and side effects of both.

    That they differ in a result or a gradient is an error.
    """
    error = one.error or other.error
    if one.error != other.error:
        end()  # one process may wait for the other
    elif apart := [*_differing(one.outputs, other.outputs), *_differing(one.gradients, other.gradients)]:
        error = ("Apart", f"the processes differ in {', '.join(apart)}")
    return replace(
        one,
        error=error,
        outputs={} if error else one.outputs,
        **{name: _in_either(name, one, other) for name in _OF_EITHER},
        seconds=0.0,  # they were spent in other processes
    )


def _in_either(name, one, other):
    return tuple(dict.fromkeys((*getattr(one, name), *getattr(other, name))))


def _differing(arrays, others):
    """The names of the arrays, or None, that are not equal to those of the same name in `others`."""
    for name, array in arrays.items():
        other = others.get(name)
        if (array is None) != (other is None) or not (array is None or np.array_equal(array, other, equal_nan=True)):
            yield name
