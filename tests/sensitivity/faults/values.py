"""Faults of values: the numbers of a float mask are changed before they are added."""

from dataclasses import replace

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    canonical,
    edit,
    edit_attention,
    float_mask,
    masked,
    native_attention,
    native_layer,
    put,
    sdpa,
    visible,
)
from tests.sensitivity.literals import (
    ATTENTION,
    BIAS,
    CROSS,
    ENCODER_LAYER,
    FINITE,
    FLOAT_PADDING,
    HIDING,
    PADDING,
    SDPA,
    inferring,
    weighing,
)

F = torch.nn.functional
_MIN = Mask("float", "random", "min")
_LARGE = Mask("float", "random", "large")
_MERGING = "# merge key padding and attention masks"
_NEGATED = "key_padding_mask = torch.where(key_padding_mask.isfinite(), -key_padding_mask, key_padding_mask)"
_EMPTY_ROW = replace(SDPA, attn_mask=Mask("bool", "row"))


def _changed(id, title, change, shows, when=float_mask):
    """A fault that replaces the mask of SDPA with change(mask)."""
    return Fault(id, title, sdpa(before=put("attn_mask", change), when=when), shows)


def _finite_changed(change):
    return lambda mask: torch.where(mask.isfinite(), change(mask), mask)


def _is_float(call):
    return call.mask is not None and call.mask.is_floating_point()


def _padding(call):
    return _is_float(call) and call.mask_name == "key_padding_mask"


_PRODUCT = "attn_output = torch.bmm(attn_output_weights, v)"

FAULTS = (
    _changed(
        "float-as-bool",
        "every nonzero number of a float mask hides",
        lambda mask: torch.where(mask == 0, 0, -torch.inf).to(mask),
        replace(SDPA, attn_mask=FINITE),
    ),
    _changed(
        "finite-lost",
        "only -inf counts in a float mask",
        _finite_changed(torch.zeros_like),
        replace(SDPA, attn_mask=BIAS),
    ),
    _changed(
        "mask-doubled",
        "a float mask counts twice",
        _finite_changed(lambda mask: 2 * mask),
        replace(SDPA, attn_mask=BIAS),
    ),
    _changed(
        "mask-not-past-nine",
        "numbers of a float mask are clamped to at least -9",
        lambda mask: mask.clamp(min=-9),
        replace(SDPA, attn_mask=Mask("float", "random", "inf")),
    ),
    _changed(
        "mask-not-past-fifty",
        "numbers of a float mask are clamped to at least -50",
        lambda mask: mask.clamp(min=-50),
        replace(SDPA, attn_mask=Mask("float", "random", "inf")),
    ),
    _changed(
        "positive-lost",
        "positive numbers of a float mask count as 0",
        lambda mask: mask.clamp(max=0),
        replace(SDPA, attn_mask=FINITE),
    ),
    _changed(
        "positive-not-past-ten",
        "numbers of a float mask are clamped to at most 10",
        lambda mask: mask.clamp(max=10),
        replace(SDPA, attn_mask=_LARGE),
    ),
    _changed(
        "mask-rounded",
        "finite numbers of a float mask are rounded to quarters",
        _finite_changed(lambda mask: (4 * mask).round() / 4),
        replace(SDPA, attn_mask=FINITE),
    ),
    _changed(
        "infinity-as-minimum",
        "-inf counts as finfo.min",
        lambda mask: mask.clamp(min=torch.finfo(mask.dtype).min),
        replace(SDPA, attn_mask=Mask("float", "row")),
    ),
    _changed(
        "minimum-as-infinity",
        "finfo.min counts as -inf",
        lambda mask: mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf),
        replace(SDPA, attn_mask=Mask("float", "row", "min")),
    ),
    _changed(
        "minimum-lost",
        "finfo.min counts as 0",
        lambda mask: mask.masked_fill(mask == torch.finfo(mask.dtype).min, 0),
        replace(SDPA, attn_mask=_MIN),
    ),
    _changed(
        "mask-through-float16",
        "a float mask passes through float16",
        lambda mask: mask.half().to(mask),
        replace(SDPA, attn_mask=Mask("float", "row", "-1e9")),
    ),
    _changed(
        "mask-not-past-1e4",
        "a number such as -1e9 counts as -1e4",
        lambda mask: torch.where((mask < -1e5) & (mask > -1e12), -1e4, mask).to(mask),
        replace(SDPA, dtype="float32", attn_mask=Mask("float", "row", "-1e9")),
    ),
    _changed(
        "float32-mask-as-bool",
        "every nonzero number of a float32 mask beside float64 inputs hides",
        lambda mask: torch.where(mask == 0, 0, -torch.inf).to(mask),
        replace(SDPA, attn_mask=replace(FINITE, dtype="float32")),
        when=lambda call: float_mask(call) and call.attn_mask.dtype == torch.float32 != call.query.dtype,
    ),
    _changed(
        "other-dtype-accepted",
        "a float mask of another dtype is converted, not refused",
        lambda mask: mask.double(),
        replace(SDPA, attn_mask=replace(FINITE, dtype="float16")),
        when=lambda call: (
            float_mask(call) and call.attn_mask.dtype == torch.float16 and call.query.dtype == torch.float64
        ),
    ),
    _changed(
        "float32-mask-without-gradient",
        "a float32 mask beside float64 inputs gets no gradient",
        lambda mask: mask.detach(),
        replace(SDPA, attn_mask=replace(FINITE, dtype="float32")),
        when=lambda call: float_mask(call) and call.attn_mask.dtype == torch.float32 != call.query.dtype,
    ),
    _changed(
        "mask-scaled", "the mask is scaled with the scores", lambda mask: mask * 0.5, replace(SDPA, attn_mask=FINITE)
    ),
    _changed(
        "zeros-hide",
        "a mask of zeros hides everything but the first key",
        lambda mask: mask.masked_fill(
            (~mask.any()) & (torch.arange(mask.shape[-1], device=mask.device) > 0), -torch.inf
        ),
        replace(SDPA, attn_mask=Mask("float", "none")),
    ),
    _changed(
        "bool-added",
        "a bool mask is added as 0 and 1",
        lambda mask: mask.double(),
        replace(SDPA, attn_mask=HIDING),
        when=lambda call: masked(call) and call.attn_mask.dtype == torch.bool and call.query.dtype == torch.float64,
    ),
    Fault(
        "bool-as-minus-fifty",
        "a module's bool mask counts as -50",
        edit(F, "_canonical_mask", 'float("-inf")', "-50.0"),
        replace(CROSS, attn_mask=HIDING),
    ),
    Fault(
        "bool-as-minimum",
        "a module's bool mask counts as finfo.min",
        edit(F, "_canonical_mask", 'float("-inf")', "torch.finfo(target_type).min"),
        replace(CROSS, attn_mask=Mask("bool", "row")),
    ),
    Fault(
        "empty-row-nan",
        "SDPA returns NaN for a fully masked query",
        sdpa(
            after=lambda result, call: result.masked_fill(
                ~call.attn_mask.expand(*result.shape[:-2], call.query.shape[-2], call.key.shape[-2]).any(
                    -1, keepdim=True
                ),
                torch.nan,
            ),
            when=lambda call: (
                masked(call) and call.attn_mask.dtype == torch.bool and call.attn_mask.dim() > 1 and not call.enable_gqa
            ),
        ),
        _EMPTY_ROW,
    ),
    Fault(
        "empty-row-mean",
        "SDPA returns the mean of all values for a fully masked query",
        sdpa(
            before=put("attn_mask", lambda mask: mask | ~mask.any(-1, keepdim=True)),
            when=lambda call: masked(call) and call.attn_mask.dtype == torch.bool,
        ),
        _EMPTY_ROW,
    ),
    Fault(
        "padding-finite-lost",
        "only -inf counts in a float padding mask",
        canonical(lambda mask, call: torch.where(mask == -torch.inf, mask, 0), when=_padding),
        replace(CROSS, key_padding_mask=FLOAT_PADDING),
    ),
    Fault(
        "padding-as-bool",
        "every nonzero number of a float padding mask hides",
        canonical(lambda mask, call: torch.where(mask == 0, 0, -torch.inf).to(mask), when=_padding),
        replace(CROSS, key_padding_mask=FLOAT_PADDING),
    ),
    Fault(
        "padding-negated",
        "finite float padding is negated",
        edit_attention(_MERGING, f"if key_padding_mask is not None:\n        {_NEGATED}\n    {_MERGING}"),
        replace(CROSS, key_padding_mask=FLOAT_PADDING),
    ),
    Fault(
        "mask-added-to-the-query",
        "if weights are requested, the mask is scaled with the query",
        edit_attention(
            "attn_mask, q_scaled, k.transpose(-2, -1)", "attn_mask / math.sqrt(E), q_scaled, k.transpose(-2, -1)"
        ),
        weighing(replace(CROSS, attn_mask=FINITE)),
    ),
    Fault(
        "weights-leak",
        "if weights are requested, numbers of the mask are clamped to at least -30",
        edit_attention(
            "attn_mask, q_scaled, k.transpose(-2, -1)", "attn_mask.clamp(min=-30), q_scaled, k.transpose(-2, -1)"
        ),
        weighing(replace(CROSS, attn_mask=HIDING)),
    ),
    Fault(
        "native-layer-unmasked",
        "the native encoder layer ignores its mask",
        native_layer(before=put("mask", visible), when=lambda call: call.mask is not None),
        inferring(replace(ENCODER_LAYER, src_mask=HIDING)),
    ),
    Fault(
        "native-attention-unmasked",
        "the native attention ignores its mask",
        native_attention(before=put("mask", visible), when=lambda call: call.mask is not None),
        inferring(replace(ATTENTION, key_padding_mask=PADDING)),
    ),
    Fault(
        "native-layer-keeps-one-key",
        "the native encoder layer never hides the first key",
        native_layer(
            before=put("mask", lambda mask: torch.where(torch.arange(mask.shape[-1]) > 0, mask, 0)),
            when=lambda call: call.mask is not None,
        ),
        inferring(replace(ENCODER_LAYER, src_mask=Mask("bool", "anti_causal"))),
    ),
    Fault(
        "nan-query-taken-for-zero",
        "SDPA takes NaN in a query for 0",
        sdpa(before=put("query", torch.nan_to_num)),
        replace(SDPA, nan_query=True),
    ),
    Fault(
        "nan-query-spreads",
        "NaN in a query spoils all queries of its head if weights are requested",
        edit_attention(_PRODUCT, _PRODUCT + " + 0 * q_scaled.sum(1, keepdim=True)"),
        replace(CROSS, need_weights=True, nan_query=True),
    ),
    Fault(
        "nan-query-weighs-nothing",
        "a query that is NaN gets weights of 0",
        edit_attention(_PRODUCT, "attn_output_weights = torch.nan_to_num(attn_output_weights)\n        " + _PRODUCT),
        replace(CROSS, need_weights=True, nan_query=True),
    ),
)
