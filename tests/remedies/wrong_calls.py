"""Apply remedies to calls with a wrong mask, and run the calls as the source text that a reader sees."""

import numpy as np
import torch

from tests.harness.expectation.changes import with_masks
from tests.harness.judgement.outcomes import ACCEPTS
from tests.harness.wrong_masks.outcome import observe, source
from tests.harness.wrong_masks.results import compare

_NO_ARGUMENT = ("module", "result", "with", " ")  # lines that begin like this make no argument


def outcome(remedy, call, setting):
    """None if the remedy helps, else a description of the result."""
    if remedy.assertion(call):
        return _outcome_of_check(remedy, call, setting)
    changed = remedy.change(call)
    found = observe(changed, setting)
    if found.kind != remedy.becomes:
        return f"{found.kind}: {found.error}"
    mismatches = compare(changed, found, _as_the_bias_says).mismatches if found.kind == ACCEPTS else ()
    return "; ".join(mismatch.what for mismatch in mismatches) or None


def _as_the_bias_says(computation, call):
    """The computation with the mask that a CausalBias of the right size means."""
    if not call.fault.bias:
        return computation
    L, S = call.right_shape
    last = np.arange(L)[:, None] + (S - L if call.fault.bias == "causal_lower_right" else 0)
    return with_masks(computation, {"attn_mask": np.arange(S) <= last})


def _outcome_of_check(remedy, call, setting):
    for its, expected in ((call, False), (call.without_fault(), True)):
        if (said := _says(remedy.assertion(its), its, setting)) is not expected:
            return f"{remedy.assertion(its)} is {said} of {its.fault.name}"
    return None


def _says(expression, call, setting):
    """The value of the check, a Python expression, for the arguments of the call."""
    names = {"torch": torch}
    lines = [line for line in source(call, setting).splitlines() if not line.startswith(_NO_ARGUMENT)]
    exec("\n".join(lines), names)
    try:
        return eval(expression, names)
    except RuntimeError:  # raised by expand() if the mask does not fit
        return False
