"""The groups of the catalogue, by the effect that a user sees."""

from dataclasses import dataclass

import numpy as np

from tests.harness.contents.arrays import directions
from tests.harness.contents.results import present
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.judgement.outcomes import ACCEPTS
from tests.harness.judgement.prediction import predict
from tests.harness.wrong_masks.entry import WrongMaskDeviation


@dataclass(frozen=True)
class Kind:
    """A group of edge cases."""

    key: str  # the name in filters and anchors
    title: str  # the heading
    about: str  # one sentence below the heading


KINDS = (
    Kind("wrong", "Wrong results", "The call succeeds without a warning, and returns a wrong result."),
    Kind("nan", "NaN", "The call succeeds, and the result contains NaN."),
    Kind("gradient", "Lost or wrong gradients", "The result is right, but a gradient is wrong or missing."),
    Kind("raises", "Errors", "The call is correct, but it raises, or its backward pass does."),
    Kind("warns", "Warnings", "The result is right, but the call gives a warning that does not apply to it."),
    Kind("accepts", "Wrong masks accepted", "The mask has a wrong shape, type or place, but the call raises no error."),
    Kind("unhelpful", "Unhelpful errors", "The mask is wrong, but the error does not name the mask."),
)


def kind_of(entry: Deviation, call: Call) -> str:
    """The key of the group of an entry: the difference between its prediction and the specification decides.

    call: the pinned case on an affected release.
    """
    prediction = predict(call.case, ledger.applying(call, (entry,)))
    if prediction.error or prediction.warnings or prediction.undefined:
        return "raises" if prediction.error else "warns" if prediction.warnings else "wrong"
    right = {name: array.real for name, array in present(call.case, predict(call.case)()).items()}
    wrong = {name: array.real for name, array in present(call.case, prediction()).items()}
    if prediction.may_be_nan or any(np.isnan(array).any() for array in wrong.values()):
        return "nan"
    is_right = all(right[name].shape == wrong[name].shape and np.allclose(right[name], wrong[name]) for name in right)
    return "gradient" if is_right and directions(call.case) else "wrong"


def kind_of_wrong_mask(entry: WrongMaskDeviation) -> str:
    """The key of the group of an entry of the ledger of wrong masks."""
    return "accepts" if entry.instead == ACCEPTS else "unhelpful"
