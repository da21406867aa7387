"""Calls with a wrong mask and what a remedy makes of them, run as the text that a reader sees."""

import torch

from tests.harness.wrong_mask_results import compare
from tests.harness.wrong_masks import ACCEPTS, observe, source
from tests.harness.wrong_masks_remedies import without_fault


def outcome(remedy, call, setting):
    """None if the remedy helps, else what comes out, in words."""
    if remedy.check:
        return _outcome_of_check(remedy, call, setting)
    changed = remedy.applied(call)
    found = observe(changed, setting)
    if found.kind != remedy.becomes:
        return f"{found.kind}: {found.error}"
    mismatches = compare(changed, found).mismatches if found.kind == ACCEPTS else ()
    return "; ".join(mismatch.what for mismatch in mismatches) or None


def _outcome_of_check(remedy, call, setting):
    for its, expected in ((call, False), (without_fault(call), True)):
        if (said := _says(remedy.check(its), its, setting)) is not expected:
            return f"{remedy.check(its)} is {said} of {its.fault.name}"
    return None


def _says(expression, call, setting):
    """What the check says of the arguments of the call."""
    names = {"torch": torch}
    lines = [line for line in source(call, setting).splitlines() if " = torch." in line or line.startswith("import")]
    exec("\n".join(line for line in lines if not line.startswith("module")), names)
    try:
        return eval(expression, names)
    except RuntimeError:  # as expand() raises where a mask does not fit
        return False
