"""Where a tangent, in forward-mode differentiation, meets what takes none. A call is a situations.Call."""

import numpy as np

from .arrays import directions
from .behaviours import with_kernel, without_gradient
from .cases import ScaledDotProduct
from .dispatch import blocks, is_given_what_moves, since
from .modes import BY_ID
from .situations import is_empty
from .specification import specification
from .subject import arguments
from .triggers import appended, blocks_without_a_bias, dropped_masks, is_nested, looks_at_no_position, views_nothing


def moves_an_expanded_tensor(call):
    """Whether an argument that has a tangent holds the same memory in several elements, not on CUDA."""
    case = call.case
    if not BY_ID[case.mode].is_forward or not directions(case) or call.release.device_type == "cuda":
        return False
    return any(_shares_memory(tensor) for name, tensor in arguments(case).items() if name in directions(case))


def _shares_memory(tensor):
    is_shared = any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return is_shared and tensor.numel() > 0


def meets_what_takes_no_tangent(call):
    """Whether a fused or a native kernel is given one, or the conversion to a nested tensor, and nothing raises before.

    The ledger has what may raise before.
    """
    return block_without_tangent(call) is not None


def block_without_tangent(call, ending=()):
    """The block at which such a kernel, or the conversion, is met, before any of `ending`; None if none is."""
    case = call.case
    if not BY_ID[case.mode].is_forward or moves_an_expanded_tensor(call) or looks_at_no_position(call):
        return None
    if is_nested(call):
        return blocks(case)[0] if "src" in directions(case) else None
    raising, taking_none = {*views_nothing(call), *blocks_without_a_bias(call)}, _taking_none(call)
    computed = _computed(call)
    for place, (block, has_tangent) in enumerate(computed):
        if block in raising or block in ending:
            return None
        is_early = case.autograd in ("last_layer", "one_parameter") and block in dict(computed[place + 1 :])
        if block in taking_none and (has_tangent or (not is_early and _has_tangent_within(call, block))):
            return block
    return None


def _taking_none(call):
    """The blocks that are served by a kernel without a forward-mode derivative."""
    fused = call.sdpa_blocks("sdpa_flash", "sdpa_efficient", "sdpa_cudnn")
    if since(call.release, "2.12"):  # where there is nothing to be done, none is called
        fused = tuple(block for block in fused if not _is_empty(call.case, block))
    return {*fused, *call.blocks("native_layer"), *call.blocks("native_mha")}


def _is_empty(case, block):
    if isinstance(case, ScaledDotProduct):
        return 0 in (*case.batch, case.L, case.S)
    return is_empty(case, block) and not appended(case)


def _has_tangent_within(call, block):
    """Whether a parameter has one that a native path is given together with the block's query, keys and values."""
    parts = {"native_layer": "layer", "native_mha": "attention"}
    return any(block in call.blocks(path) and is_given_what_moves(call.case, block, parts[path]) for path in parts)


def _computed(call):
    """(block, whether its query, a key, a value or a mask has a tangent) of each attention, in order.

    What has one is complex in the reference.
    """
    case, computed = call.case, []
    computation = without_gradient(specification(case, displace=tuple(directions(case))), dropped_masks(call))

    def noting(block, kernel):
        def noting_kernel(*given):
            computed.append((block, any(map(np.iscomplexobj, given))))
            return kernel(*given)

        return noting_kernel

    for block in ("sdpa",) if isinstance(case, ScaledDotProduct) else blocks(case):
        computation = with_kernel(computation, lambda kernel, block=block: noting(block, kernel), (block,))
    computation()
    return computed
