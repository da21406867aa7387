"""Faults that depend on dtypes and memory layouts of masks and inputs."""

from dataclasses import replace

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    at,
    bool_mask,
    canonical,
    edit,
    float_mask,
    masked,
    native_layer,
    put,
    sdpa,
)
from tests.sensitivity.literals import CROSS, ENCODER_LAYER, FINITE, HIDING, PER_HEAD, SDPA, inferring, weighing

F = torch.nn.functional


def _as_stored(mask):
    """The mask read with the strides of a contiguous tensor."""
    strides = torch.empty(mask.shape, device="meta").stride()
    size = mask.untyped_storage().nbytes() // mask.element_size()
    span = sum((n - 1) * step for n, step in zip(mask.shape, strides, strict=True)) + 1
    if mask.numel() == 0 or mask.storage_offset() + span > size:
        return mask
    return mask.as_strided(mask.shape, strides)


def _unaligned(mask):
    """The mask read from the beginning of its storage."""
    return mask.as_strided(mask.shape, mask.stride(), 0) if mask.numel() else mask


FAULTS = (
    Fault(
        "strides-ignored",
        "SDPA ignores the strides of a mask",
        sdpa(
            before=put("attn_mask", _as_stored),
            when=lambda call: masked(call) and not call.attn_mask.is_contiguous() and 0 not in call.attn_mask.stride(),
        ),
        replace(SDPA, attn_mask=Mask("bool", "random", layout="transposed")),
    ),
    Fault(
        "offset-ignored",
        "a module ignores the storage offset of its mask",
        canonical(
            lambda mask, call: _unaligned(mask),
            when=lambda call: (
                call.mask is not None and call.mask.is_floating_point() and call.mask.storage_offset() > 0
            ),
        ),
        replace(CROSS, attn_mask=Mask("float", "random", "finite", layout="sliced")),
    ),
    Fault(
        "steps-ignored",
        "SDPA ignores a bool mask whose last stride is not 1",
        sdpa(
            before=put("attn_mask", torch.ones_like),
            when=lambda call: bool_mask(call) and call.attn_mask.dim() > 1 and call.attn_mask.stride(-1) > 1,
        ),
        replace(SDPA, attn_mask=Mask("bool", "random", layout="stepped")),
    ),
    Fault(
        "expanded-mask-lost",
        "a module's float mask that is expanded in memory loses its finite numbers",
        canonical(
            lambda mask, call: torch.where(mask.isfinite(), 0, mask),
            when=lambda call: call.mask is not None and call.mask.is_floating_point() and 0 in call.mask.stride(),
        ),
        replace(CROSS, attn_mask=Mask("float", "column", "negative", layout="expanded")),
    ),
    Fault(
        "input-strides-matter",
        "SDPA takes the mask of the neighbouring query if the query tensor is not contiguous",
        sdpa(
            before=put("attn_mask", lambda mask: mask.roll(1, -2)),
            when=lambda call: masked(call) and call.attn_mask.dim() > 1 and not call.query.is_contiguous(),
        ),
        replace(SDPA, attn_mask=HIDING, layout="transposed"),
    ),
    Fault(
        "mask-rounded-to-bfloat16",
        "SDPA rounds a float32 mask to bfloat16",
        sdpa(
            before=put("attn_mask", lambda mask: mask.bfloat16().float()),
            when=lambda call: float_mask(call) and call.attn_mask.dtype == torch.float32,
        ),
        replace(SDPA, dtype="float32", attn_mask=FINITE),
    ),
    Fault(
        "mask-rounded-to-float32",
        "SDPA rounds a float64 mask to float32",
        sdpa(
            before=put("attn_mask", lambda mask: mask.float().double()),
            when=lambda call: float_mask(call) and call.attn_mask.dtype == torch.float64,
        ),
        replace(SDPA, attn_mask=FINITE),
    ),
    Fault(
        "minimum-rounded-to-infinity",
        "SDPA rounds a float64 mask to float32, so that finfo.min becomes -inf",
        sdpa(
            before=put("attn_mask", lambda mask: torch.where(mask < -1e38, mask.float().double(), mask)),
            when=lambda call: float_mask(call) and call.attn_mask.dtype == torch.float64,
        ),
        replace(SDPA, attn_mask=Mask("float", "row", "min")),
    ),
    Fault(
        "mask-always-float32",
        "a module turns a bool mask into float32",
        edit(F, "_canonical_mask", "dtype=target_type", "dtype=torch.float32"),
        weighing(replace(CROSS, attn_mask=HIDING)),
    ),
    Fault(
        "result-in-float32",
        "SDPA computes in float32 if a mask is given",
        sdpa(after=lambda result, call: result.float().to(result.dtype), when=masked),
        replace(SDPA, attn_mask=HIDING),
    ),
    Fault(
        "float32-overflow",
        "in float32, the mask is clamped to at least -1e4",
        sdpa(
            before=put("attn_mask", lambda mask: mask.clamp(min=-1e4)),
            when=lambda call: float_mask(call) and call.query.dtype == torch.float32,
        ),
        replace(SDPA, dtype="float32", attn_mask=Mask("float", "row")),
    ),
    Fault(
        "half-the-digits",
        "SDPA loses half of float64's digits under a mask",
        sdpa(
            after=lambda result, call: result * (1 + 1e-9),
            when=lambda call: masked(call) and call.query.dtype == torch.float64,
        ),
        replace(SDPA, attn_mask=HIDING),
    ),
    Fault(
        "native-layer-mask-strides",
        "the native encoder layer ignores a mask that is not contiguous in its last head",
        native_layer(
            before=put("mask", at((slice(None), -1))),
            when=lambda call: call.mask is not None and call.mask.dim() == 4 and not call.mask.is_contiguous(),
        ),
        inferring(replace(ENCODER_LAYER, src_mask=HIDING)),
    ),
    Fault(
        "native-layer-mask-3d-head",
        "the native encoder layer ignores a contiguous mask in its last head",
        native_layer(
            before=put("mask", at((slice(None), -1))),
            when=lambda call: call.mask is not None and call.mask.dim() == 4 and call.mask.is_contiguous(),
        ),
        inferring(replace(ENCODER_LAYER, src_mask=PER_HEAD)),
    ),
)
