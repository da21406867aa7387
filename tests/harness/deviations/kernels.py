"""Predicts the kernel that F.scaled_dot_product_attention chooses on a CPU, for releases that are not installed.

watching.py asks the installed torch for its choice.
"""

import torch
import torch.nn.functional as F

from ..cases.case import Case, ScaledDotProduct, drops, masks_of
from ..contents.arrays import inputs, mask_arrays
from ..contents.packing import packs
from ..contents.results import as_given
from ..execution.call import lay_out
from ..execution.release import Release
from ..modes.modes import BY_ID, MATH
from ..path_names import BY_SDPA, SDPA_FLASH, SDPA_MATH, SDPA_NONE
from ..releases import since
from .call import Call
from .facts import drops_the_mask, needs_mask_gradient


def kernels(case: Case, release: Release, named: str | None = None) -> tuple[str, ...]:
    """The kernel of each attention that scaled_dot_product_attention computes, in order (Observation.served).

    named: this kernel serves all attentions. The fused kernel of a CPU exists since 2.1.
    """
    if case.is_flex:  # it has a kernel of its own
        return ()
    call = Call(case, release)
    named = named if since(release, "2.1") else None
    served = {block: named or kernel(case, release, block) for block in call.blocks(BY_SDPA)}
    return tuple(served[block] for block in call.case.order if block in served)


def kernel(case: Case, release: Release, block: str) -> str:
    """The kernel that serves a block."""
    mode = BY_ID[case.mode]
    if mode.within == MATH or mode.decomposes or packs(case):
        return SDPA_MATH
    if _takes_flash(case, release, block):
        return SDPA_FLASH
    return SDPA_NONE if case.mode == "sdpa_flash" else SDPA_MATH


def _takes_flash(case, release, block):
    if not since(release, "2.1") or drops(case):
        return False
    sizes_fit = _sdpa_fits if isinstance(case, ScaledDotProduct) else _module_fits
    return sizes_fit(case, release, block) and _mask_fits(case, release, block)


def _sdpa_fits(case, release, _):
    """True if the sizes and the memory of query, key and value are those that the fused kernel takes."""
    dimensions = (2, 1) if since(release, "2.14") else (2,)
    return (
        len(case.batch) in dimensions
        and case.Dv == case.D
        and 0 not in (case.L, case.S)
        and (case.kv_heads in (None, case.heads) or since(release, "2.9"))
        and all(_last_stride(case, array) == 1 for array in inputs(case).values())
    )


def _last_stride(case, array):
    """The last stride of query, key or value; some modes copy or cast them."""
    mode = BY_ID[case.mode]
    is_copied = mode.maps("sequences") or case.mode == "jagged_batch"
    tensor = lay_out(array, "contiguous" if is_copied else case.layout, case.dtype)
    return (tensor.to(getattr(torch, mode.lowers)) if mode.lowers else tensor).stride(-1)


def _module_fits(case, _, block):
    return case.number_of_queries(block) > 0 and case.number_of_keys(block) + case.appended_keys > 0


def _mask_fits(case, release, block):
    """True if the fused kernel takes the mask that scaled_dot_product_attention is given, or if there is none."""
    if not any(getattr(case, name) is not None for name in case.mask_names(block)):
        return True
    if drops_the_mask(case, release, block):
        return True
    is_learned = needs_mask_gradient(case, block) and not _hides_gradients(case)
    if not since(release, "2.3") or is_learned:
        return False
    if isinstance(case, ScaledDotProduct) and not _dimensions_fit(case):
        return False
    return since(release, "2.8") or _mask_given(case, block).stride(-1) == 1


def _hides_gradients(case):
    """True if a kernel is chosen within a transform of torch.func, where no mask seems to require a gradient."""
    mode = BY_ID[case.mode]
    return mode.is_forward or mode.id == "func_vjp" or mode.maps("masks")


def _dimensions_fit(case):
    """True if the mask has dimensions that the kernel takes: any beside a query of three, which it takes since 2.14."""
    has_both = not case.broadcast.endswith("-D") or len(case.batch) == 1
    return len(case.mask_batch) in (0, len(case.batch)) and has_both


def _mask_given(case, block):
    """The mask as scaled_dot_product_attention is given it: modules have merged theirs by then."""
    tensors = {name: _tensor(case, name) for name in case.mask_names(block) if getattr(case, name) is not None}
    if isinstance(case, ScaledDotProduct):
        return tensors["attn_mask"]
    attn_mask, padding = (tensors.get(name) for name in case.mask_names(block))
    attn_mask, padding = (_as_float(case, mask) for mask in (attn_mask, padding))
    if case.appended_keys:
        attn_mask, padding = (_padded(mask, case.appended_keys) for mask in (attn_mask, padding))
    return _merged(case, attn_mask, padding)


def _tensor(case, name):
    mask = masks_of(case)[name]
    layout = {"all": "contiguous", "masks": "stepped"}.get(BY_ID[case.mode].copies, mask.layout)
    return lay_out(as_given(case, name, mask_arrays(case)[name]), layout, mask.dtype or case.dtype)


def _as_float(case, mask):
    """The mask as F.multi_head_attention_forward makes it float: a dense mask keeps its strides."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=getattr(torch, case.dtype)).masked_fill_(mask, float("-inf"))


def _padded(mask, number):
    return None if mask is None else F.pad(mask, (0, number))


def _merged(case, attn_mask, padding):
    """The sum, of shape (N * heads or 1, L or 1, S), with the strides that F.multi_head_attention_forward gives."""
    if attn_mask is not None and attn_mask.ndim == 2:
        attn_mask = attn_mask[None]
    if padding is not None:
        of_each_sample = padding.reshape(case.samples, 1, 1, padding.shape[-1])
        of_each_head = of_each_sample.expand(-1, case.num_heads, -1, -1).flatten(0, 1)
        return of_each_head if attn_mask is None else attn_mask + of_each_head
    return attn_mask
