"""Calls with a wrong mask and what a remedy makes of them, run as the text that a reader sees."""

import numpy as np
import torch

from tests.harness.expectation.changes import with_masks
from tests.harness.wrong_masks.remedies import without_fault
from tests.harness.wrong_masks.results import compare
from tests.harness.wrong_masks.table import ACCEPTS, observe, source

_NO_ARGUMENT = ("module", "result", "with", " ")  # so begin the lines of a call that make none of its arguments


def outcome(remedy, call, setting):
    """None if the remedy helps, else what comes out, in words."""
    if remedy.check:
        return _outcome_of_check(remedy, call, setting)
    changed = remedy.applied(call)
    found = observe(changed, setting)
    if found.kind != remedy.becomes:
        return f"{found.kind}: {found.error}"
    mismatches = compare(changed, found, _as_the_bias_says).mismatches if found.kind == ACCEPTS else ()
    return "; ".join(mismatch.what for mismatch in mismatches) or None


def _as_the_bias_says(computation, call):
    """The computation with the mask that a CausalBias of the right size stands for."""
    if not call.fault.bias:
        return computation
    L, S = call.right_shape
    last = np.arange(L)[:, None] + (S - L if call.fault.bias == "causal_lower_right" else 0)
    return with_masks(computation, {"attn_mask": np.arange(S) <= last})


def _outcome_of_check(remedy, call, setting):
    for its, expected in ((call, False), (without_fault(call), True)):
        if (said := _says(remedy.check(its), its, setting)) is not expected:
            return f"{remedy.check(its)} is {said} of {its.fault.name}"
    return None


def _says(expression, call, setting):
    """What the check says of the arguments of the call."""
    names = {"torch": torch}
    lines = [line for line in source(call, setting).splitlines() if not line.startswith(_NO_ARGUMENT)]
    exec("\n".join(lines), names)
    try:
        return eval(expression, names)
    except RuntimeError:  # as expand() raises where a mask does not fit
        return False
