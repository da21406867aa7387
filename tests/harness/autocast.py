"""What torch.autocast on a CPU makes of a call: who raises, what a float mask becomes, in which dtype it comes back."""

from . import dispatch
from .arrays import mask_arrays
from .behaviours import raising
from .cases import MultiHead, ScaledDotProduct, merged_dtype
from .modes import computed_in
from .precision import PRECISIONS
from .situations import drops_the_mask, is_cast, is_empty, mask_names
from .triggers import (
    beyond,
    blocks_without_a_bias,
    is_nested,
    looks_at_no_position,
    misses_the_layers_biases,
    norms_a_packed_batch,
    overflowed,
    packs_nothing,
    unpacks_too_late,
    views_nothing,
)


def overflowing_masks(call):
    """{name: where it does}: the float masks that hold a number too large for the low precision."""
    if not is_cast(call.case):
        return {}
    limit = PRECISIONS[computed_in(call.case)].max
    masks = {name: array for name, array in mask_arrays(call.case).items() if array.dtype != bool}
    return beyond(masks, limit)


def overflow(computation, call):
    """The masks as they are added: infinite where they overflow."""
    return overflowed(computation, overflowing_masks(call))


def raises_when_packed(call):
    """Whether nn.TransformerEncoder packs something into a nested tensor, which its native path then cannot compute."""
    return is_cast(call.case) and is_nested(call) and not packs_nothing(call) and not misses_the_layers_biases(call)


def raises_on_the_native_layer(call):
    """Whether the native path of nn.TransformerEncoderLayer has something to compute."""
    return is_cast(call.case) and not is_nested(call) and bool(_busy_native_layers(call))


def _busy_native_layers(call):
    return [block for block in call.blocks("native_layer") if not is_empty(call.case, block)]


def raises_in_native_attention(call):
    """Whether the native path of nn.MultiheadAttention is what raises first."""
    return _first_to_raise(call) == "native_mha"


def raises_in_attention(call):
    """Whether scaled_dot_product_attention, in a module, is what raises first: its query is cast, not all the rest."""
    return _first_to_raise(call) == "sdpa"


def raise_of_arguments(computation, call):
    """What scaled_dot_product_attention raises: it looks at its keys before it looks at its mask."""
    what = (
        "query, key, and value to have the same dtype" if _has_keys_of_its_own(call.case) else "attn_mask dtype to be"
    )
    return raising(computation, "RuntimeError", f"Expected {what}")


def _has_keys_of_its_own(case):
    """Whether keys are given that are no product, or joined by one."""
    return getattr(case, "static", False) or getattr(case, "add_bias_kv", False)


def _first_to_raise(call):
    """The path of the first attention that raises before 2.2, if any does."""
    case = call.case
    if not is_cast(case) or isinstance(case, ScaledDotProduct):
        return None
    if misses_the_layers_biases(call):  # which raises before
        return None
    if packs_nothing(call) and norms_a_packed_batch(call) and case.N * case.S > 0:
        return "native_mha"
    if raises_when_packed(call) or looks_at_no_position(call) or unpacks_too_late(call):  # which raise before, too
        return None
    paths, viewing = dispatch.paths(case, call.release), views_nothing(call)
    raising = {*_busy_native(call), *_unlike(call), *viewing}
    first = next(filter(raising.__contains__, paths), None)
    return None if first is None or first in viewing else paths[first]  # such a view raises an error of its own


def attends_to_nothing_natively(call):
    """Whether the native path of nn.MultiheadAttention has nothing to compute, and what it returns is no product."""
    native = [block for block in call.blocks("native_mha") if block not in blocks_without_a_bias(call)]
    is_alone = is_cast(call.case) and isinstance(call.case, MultiHead)
    return is_alone and any(is_empty(call.case, block) for block in native)


def _busy_native(call):
    native = call.blocks("native_layer") + call.blocks("native_mha")
    without = blocks_without_a_bias(call)  # which raise another error
    return [block for block in native if not is_empty(call.case, block) and block not in without]


def _unlike(call):
    """The blocks that give scaled_dot_product_attention arguments of two dtypes."""
    case, fused = call.case, call.blocks("sdpa")
    if _has_keys_of_its_own(case):
        return fused
    alike = (None, computed_in(case))
    masked = [block for block in fused if merged_dtype(case, *mask_names(case, block)) not in alike]
    return [block for block in masked if not drops_the_mask(case, call.release, block)]


def raise_of_dtypes(computation, call):
    """What is multiplied is of two dtypes."""
    return raising(computation, "RuntimeError", "expected scalar type|must have the same dtype")


def returns_what_is_native(call):
    """Whether the native path of nn.TransformerEncoderLayer has served a layer of what the call returns."""
    case = call.case
    return is_cast(case) and not getattr(case, "has_decoder", False) and bool(_busy_native_layers(call))
