"""The ledger of known deviations: which calls they affect, in which releases, and with which result.

The model of a release is the reference, changed by the release's deviations. An entry predicts a result; it excuses
nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..expectation.specification import Computation
from . import (
    activations,
    autocast,
    causal_hints,
    checkpoint,
    compiled,
    cuda,
    cuda_modules,
    distributed,
    empty_inputs,
    empty_rows,
    flex,
    flex_block_masks,
    functorch,
    fused_cpu,
    given_nested,
    hidden_content,
    low_precision,
    mixed_types,
    native,
    nested_tensors,
    onnx,
    proposed,
    pruned,
    quantized,
    replaced_parts,
    square_mask,
    torchscript,
    vmap,
    written,
)
from .call import Call
from .entry import STAGES, Deviation
from .reach import altered


@dataclass(frozen=True)
class Applied:
    """An entry that changes a call."""

    id: str
    change: Callable[[Computation], Computation]  # the entry's change for this call


def applying(call: Call, entries: Iterable[Deviation]) -> tuple[Applied, ...]:
    """The entries that apply to the call, in the order in which their changes compose.

    entries: those that concern the release.
    """
    met = call.met
    asked = (entry for entry in entries if entry.is_about(call.case))
    return tuple(Applied(entry.id, partial(entry.change, call=met)) for entry in asked if entry.applies(met))


# The first families replace kernels, later ones wrap them.
_FAMILIES = (
    written,
    empty_rows,
    native,
    nested_tensors,
    mixed_types,
    causal_hints,
    cuda_modules,
    cuda,
    fused_cpu,
    low_precision,
    checkpoint,
    empty_inputs,
    activations,
    pruned,
    replaced_parts,
    torchscript,
    compiled,
    autocast,
    functorch,
    vmap,
    given_nested,
    hidden_content,
    quantized,
    square_mask,
    onnx,
    distributed,
    flex,
    flex_block_masks,
    proposed,
)
ENTRIES = tuple(
    sorted(
        (altered(entry, proposed.REACHES) for family in _FAMILIES for entry in family.ENTRIES),
        key=lambda entry: STAGES.index(entry.stage),
    )
)
