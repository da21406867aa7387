"""The known deviations: for each, which cases it affects in which releases, and what they do instead.

model of a release = reference + its deviations. A deviation predicts; it excuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import (
    activations,
    autocast,
    causal_hints,
    checkpoint,
    compiled,
    cuda,
    empty_inputs,
    empty_rows,
    functorch,
    fused_cpu,
    given_nested,
    hidden_content,
    low_precision,
    mixed_types,
    native,
    nested_tensors,
    pruned,
    square_mask,
    torchscript,
)
from .entry import STAGES


@dataclass(frozen=True)
class Applied:
    """An entry that changes a case: change is computation -> computation."""

    id: str
    change: Callable


def applying(call, entries):
    """The deviations of this call (call.Call), in the order in which they compose.

    entries: those that concern the release.
    """
    met = call.met
    asked = (entry for entry in entries if entry.pinned.attends == call.case.attends)
    return tuple(Applied(entry.id, partial(entry.change, call=met)) for entry in asked if entry.applies(met))


# Kernels are replaced by the first ones, and wrapped by later ones.
_FAMILIES = (
    empty_rows,
    native,
    nested_tensors,
    mixed_types,
    causal_hints,
    cuda,
    fused_cpu,
    low_precision,
    checkpoint,
    empty_inputs,
    activations,
    pruned,
    torchscript,
    compiled,
    autocast,
    functorch,
    given_nested,
    hidden_content,
    square_mask,
)
ENTRIES = tuple(
    sorted((entry for family in _FAMILIES for entry in family.ENTRIES), key=lambda entry: STAGES.index(entry.stage))
)
