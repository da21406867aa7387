"""The calls with a wrong mask that a deviation affects, by the path that serves them in a release."""

from math import prod

from ..cases.case import is_padding
from ..execution.release import Release
from ..releases import since
from .table import SDPA, N, WrongCall

HELD_RIGHT = ("flat", "reshaped", "four_dimensions", "slices_reshaped")  # as many elements as the right mask


def _is_self_attention(call):
    """True if the mask belongs to a self-attention."""
    return call.callee.variant == "self" or call.argument == "mask" or call.argument.startswith(("src_", "tgt_"))


def is_native(call: WrongCall, release: Release) -> bool:
    """True if a native path serves the attention of the mask. A float mask closes some of these paths."""
    if _is_closed_by_float(call, release):
        return False
    takes_it = since(release, "2.0") or is_padding(call.argument)
    return call.mode == "inference" and call.callee.is_batched and _is_self_attention(call) and takes_it


def _is_closed_by_float(call, release):
    """True if a float mask closes the native path of nn.MultiheadAttention. An encoder layer's path stays open."""
    is_in_encoder = call.argument == "mask" or call.argument.startswith("src_")
    return call.fault.is_float and not is_in_encoder and since(release, "2.1")


def is_explicit(call: WrongCall, release: Release) -> bool:
    """True if torch calls softmax and both products one by one, unless a native path serves."""
    wants_weights = call.module == "MultiheadAttention" or "need_weights=True" in call.callee.options
    return call.module != SDPA and (wants_weights or not since(release, "2.0"))


def is_compared(call: WrongCall, release: Release) -> bool:
    """True if a stack compares the mask with a causal mask."""
    names = ("mask", "src_mask", "tgt_mask") if since(release, "2.1") else ("mask", "src_mask")
    is_stack = call.module in ("TransformerEncoder", "TransformerDecoder", "Transformer")
    return is_stack and call.argument in names and since(release, "2.0")


def is_native_layer(call: WrongCall, release: Release) -> bool:
    """True if the native encoder layer gets the attention mask."""
    return is_native(call, release) and call.argument in ("mask", "src_mask")


def _is_nesting(call):
    """True if an encoder packs its input into a nested tensor by the mask."""
    is_in_encoder = call.argument == "src_key_padding_mask" and call.module != "TransformerEncoderLayer"
    return is_in_encoder and call.mode == "inference" and call.callee.is_batched


def is_native_padding(call: WrongCall, release: Release) -> bool:
    """True if a native path gets the mask as a 2-D padding mask."""
    is_padded = is_padding(call.argument) and not _is_nesting(call)
    return is_native(call, release) and is_padded and len(call.shape or ()) == 2


def is_taken_for_a_hint(call: WrongCall) -> bool:
    """True if scaled_dot_product_attention turns a CausalBias of any size into is_causal=True."""
    is_square = call.fault.bias and len(set(call.shape or ())) == 1
    return call.module == SDPA and bool(is_square or call.fault.bias == "causal_upper_left") and not call.fault.hint


def is_viewed(call: WrongCall, release: Release) -> bool:
    """True if a native path views the mask as (1, 1, length, length), or a 3-D mask as (N, any, length, length)."""
    return is_native(call, release) and not is_padding(call.argument) and call.shape is not None


def is_viewed_as_padding(call: WrongCall, release: Release) -> bool:
    """True if a native path views the padding mask as (N, 1, 1, length): only beside an attention mask."""
    is_padded = is_padding(call.argument) and not _is_nesting(call)
    return is_native(call, release) and is_padded and call.fault.beside and call.shape != call.right_shape


def has_its_elements(call: WrongCall) -> bool:
    """True if the mask has as many elements as the right one."""
    return prod(call.shape or ()) == prod(call.right_shape)


def cannot_be_viewed(call: WrongCall, release: Release) -> bool:
    """True if that view of an attention mask raises: the number of elements is wrong."""
    if not is_viewed(call, release):
        return False
    square, shape = prod(call.right_shape), call.shape or ()
    return prod(shape) % (N * square) != 0 if len(shape) == 3 else prod(shape) != square


def drops_the_mask(call: WrongCall, release: Release) -> bool:
    """True if is_causal replaces the mask before torch checks it."""
    is_hinted = call.fault.hint and call.shape is not None and call.module != SDPA
    return is_hinted and not is_native(call, release) and not is_explicit(call, release)


def is_fused(call: WrongCall, release: Release) -> bool:
    """True if the CPU's fused kernel would serve the call: with a mask since 2.3, with enable_gqa since 2.9."""
    first = {"4d": "2.3", "grouped": "2.9"}.get(call.callee.variant)
    return first is not None and since(release, first) and release.device_type != "cuda"


def has_no_rows(call: WrongCall, release: Release) -> bool:
    """True if the CPU's fused kernel gets a 1-D mask."""
    return call.fault.kind == "flat" and is_fused(call, release)


def is_refused_as_attn_mask(call: WrongCall, release: Release) -> bool:
    """True if scaled_dot_product_attention gets a float padding mask as attn_mask, and refuses its dtype."""
    refused = ("higher",) if since(release, "2.4") else ("higher", "lower")
    if call.fault.precision not in refused or not is_padding(call.argument) or is_explicit(call, release):
        return False
    return not is_native(call, release)


def is_on_another_device(call: WrongCall, release: Release) -> bool:
    """True if the mask is on the CPU, and no native path checks its device. A CausalBias always is on the CPU."""
    if call.fault.name == "causal_bias":
        return is_explicit(call, release)
    return call.fault.elsewhere and not is_native(call, release)


def is_elsewhere_unnoticed(call: WrongCall, release: Release) -> bool:
    """True if every operator accepts the mask on the meta device, and leaves the result uninitialised."""
    return call.fault.elsewhere and not is_elsewhere_noticed(call, release)


def is_elsewhere_noticed(call: WrongCall, release: Release) -> bool:
    """True if an operator raises because the mask is on the meta device."""
    if not call.fault.elsewhere:
        return False
    if _is_nesting(call) or is_compared(call, release):
        return True
    if is_native(call, release):  # since then, a kernel for the meta device makes an empty result
        return not since(release, "2.13" if call.module == "TransformerEncoderLayer" else "2.10")
    if not since(release, "2.0"):
        return call.module.startswith("Transformer")  # the residual is on another device than the result
    if is_explicit(call, release) or not since(release, "2.1"):
        return False
    return not since(release, {"3d": "2.14", "grouped": "2.9"}.get(call.callee.variant, "2.3"))


def is_half_read(call: WrongCall, release: Release) -> bool:
    """True if the CPU's fused kernel gets a float32 mask beside float64 inputs, for a whole vector of keys."""
    if call.fault.precision != "lower" or not call.fault.length:
        return False
    if call.module == SDPA:
        return is_fused(call, release) or (call.callee.variant == "3d" and since(release, "2.14"))
    return not is_explicit(call, release) and not is_native(call, release)


def counts_values(call: WrongCall, release: Release) -> bool:
    """True if the CPU's fused kernel takes the number of keys from the value; a mask is checked against both."""
    if call.fault.more[1] == 0 or call.module != SDPA or call.fault.beside:
        return False
    return since(release, {"4d": "2.1", "grouped": "2.9", "3d": "2.14"}[call.callee.variant])
