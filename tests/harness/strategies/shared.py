"""Calls that two processes share: a sample for each, and the same deviations in both parts as in the whole."""

from dataclasses import replace
from typing import Any

from ..cases.case import Kind
from ..deviations import ledger
from ..deviations.call import Call
from ..deviations.nested_tensors import truncates
from ..deviations.paths import nested_lengths
from ..deviations.refusals import refusal
from ..execution.release import Release
from ..modes.distributed import FSDP, TENSOR_PARALLEL
from ..modes.mode import Mode
from ..modes.modes import BY_ID

_TRAINED = {"frozen": "no_grad", "inputs": "grad", "one_input": "grad"}
_ALL_TRAINED = {"one_parameter": "parameters", "last_layer": "parameters"}


def shared(case: Kind, mode: Mode) -> Kind:
    """The case with two samples, or unbatched, and mostly with parameters that require a gradient, as DDP wants."""
    changes: dict[str, Any] = {"N": 2 if case.batched else 1}  # functions without samples have no such field
    if mode.is_sharded:
        changes["dropout"] = 0.0
    if mode.id == TENSOR_PARALLEL and case.has_layers:
        changes["dim_feedforward"] = 4  # as many features for each process
        changes |= {name: max(getattr(case, name), 1) for name in case.length_fields}  # some divide by a length
    autograd = _TRAINED.get(case.autograd, case.autograd)
    if mode.id == FSDP:  # gathers the gradients of a shard in which no parameter is trained from one process alone
        autograd = _ALL_TRAINED.get(autograd, autograd)
    return replace(case, autograd=autograd, **changes)


def is_alike(case: Kind, release: Release) -> bool:
    """True if both parts of a shared call show the deviations that the whole call shows; True for other calls.

    An encoder packs its batch by all padding in it, for example, and each process sees that of its own sample.
    """
    if not BY_ID[case.mode].is_shared or case.N != 2:
        return True
    return _shown(case, release) == _shown(case, release, only=0) == _shown(case, release, only=1)


def _shown(case, release, **changes):
    """What depends on the samples: the refusal, the deviations, and the length to which an encoder cuts its output."""
    call = Call(case := replace(case, **changes), release)
    entries = (entry for entry in ledger.ENTRIES if entry.concerns(release))
    refused, shown = refusal(call), [applied.id for applied in ledger.applying(call, entries)]
    return refused and refused.id, shown, nested_lengths(case)[0].max(initial=0) if truncates(call) else None
