"""The groups of the catalogue: what a user sees of an edge case."""

from dataclasses import dataclass

import numpy as np

from tests.harness.contents.arrays import directions
from tests.harness.contents.results import present
from tests.harness.deviations import ledger
from tests.harness.judgement.verdict import predict
from tests.harness.wrong_masks.table import ACCEPTS


@dataclass(frozen=True)
class Kind:
    """A group of edge cases."""

    key: str
    title: str
    about: str


KINDS = (
    Kind("wrong", "Wrong results", "The call succeeds, says nothing, and returns something else."),
    Kind("nan", "NaN", "The call succeeds, and part of the result is not a number."),
    Kind("gradient", "Lost or wrong gradients", "The result is right, what backward makes of it is not."),
    Kind("raises", "Errors", "The call is right, and it or its backward raises."),
    Kind("warns", "Warnings", "The result is right, and a warning speaks of something that the caller did not do."),
    Kind("accepts", "Wrong masks accepted", "The mask has a wrong shape, type or place, and nothing says so."),
    Kind("unhelpful", "Unhelpful errors", "The mask is wrong, and the error does not say that the mask is."),
)


def kind_of(entry, call):
    """The key of an entry of ledger.py: for the pinned case, what it predicts is compared with what is specified."""
    prediction = predict(call.case, ledger.applying(call, (entry,)))
    if prediction.error or prediction.warnings or prediction.undefined:
        return "raises" if prediction.error else "warns" if prediction.warnings else "wrong"
    right = {name: array.real for name, array in present(call.case, predict(call.case)()).items()}
    wrong = {name: array.real for name, array in present(call.case, prediction()).items()}
    if prediction.may_be_nan or any(np.isnan(array).any() for array in wrong.values()):
        return "nan"
    is_right = all(right[name].shape == wrong[name].shape and np.allclose(right[name], wrong[name]) for name in right)
    return "gradient" if is_right and directions(call.case) else "wrong"


def kind_of_wrong_mask(entry):
    """The key of an entry of ledger.py."""
    return "accepts" if entry.instead == ACCEPTS else "unhelpful"
