"""Faults that depend on how a tensor was made: its numbers, its dimensions, its memory, the context of its making."""

from dataclasses import replace

from tests.harness.cases.masks import NAN, Mask
from tests.sensitivity.injection import (
    Fault,
    canonical,
    drop_mask,
    edit_attention,
    edit_module,
    float_mask,
    masked,
    native_layer,
    put,
    sdpa,
)
from tests.sensitivity.literals import CROSS, DECODER, ENCODER_LAYER, HIDING, SDPA, TRANSFORMER, inferring

_CHECK = "is_batched = _mha_shape_check("
_SPOILED = Mask("float", "one", NAN)
_FOR_INFERENCE = {
    "autograd": "inference_mode",
    "seed": 5,
}  # a seed with which tensors are made under inference_mode, too


def _lost_in_sdpa(id, title, when, shows):
    return Fault(id, title, sdpa(before=drop_mask, when=lambda call: masked(call) and when(call)), shows)


def _with_gradient(id, title, change, shows):
    """The fault that the backward pass of SDPA is given change(cotangent)."""

    def after(result, call):
        if result.requires_grad:
            result.register_hook(change)
        return result

    return Fault(id, title, sdpa(after=after), shows)


def _is_expanded_over_samples(call):
    if not masked(call) or call.attn_mask.dim() != 4 or 1 in call.attn_mask.shape[:2]:
        return False
    return call.attn_mask.stride(0) == 0 != call.attn_mask.stride(1)


def _is_of_padding(call):
    return masked(call) and call.attn_mask.dim() == 4 and call.attn_mask.shape[1:3] == (1, 1) != call.query.shape[1:3]


FAULTS = (
    Fault(
        "nan-of-mask-taken-for-zero",
        "SDPA takes NaN in a mask for 0",
        sdpa(before=put("attn_mask", lambda mask: mask.nan_to_num(0.0, None, float("-inf"))), when=float_mask),
        inferring(replace(SDPA, attn_mask=_SPOILED)),
    ),
    Fault(
        "nan-of-mask-hides",
        "NaN in a module's mask hides the key",
        canonical(lambda mask, call: mask.masked_fill(mask.isnan(), float("-inf"))),
        inferring(replace(CROSS, attn_mask=_SPOILED)),
    ),
    Fault(
        "target-mask-lost-where-made-for-inference",
        "TransformerDecoder ignores a tgt_mask that was made under torch.inference_mode",
        edit_module(
            "TransformerDecoder",
            "output = tgt\n",
            "output = tgt\n    tgt_mask = None if tgt_mask is not None and tgt_mask.is_inference() else tgt_mask\n",
        ),
        replace(DECODER, tgt_mask=HIDING, **_FOR_INFERENCE),
    ),
    Fault(
        "writes-to-masks-counted",
        "nn.Transformer asks how often src_mask was written to, which raises if it was made under torch.inference_mode",
        edit_module(
            "Transformer",
            "memory = self.encoder(",
            "writes = 0 if src_mask is None else src_mask._version\n    memory = self.encoder(",
        ),
        replace(TRANSFORMER, src_mask=HIDING, **_FOR_INFERENCE),
    ),
    _lost_in_sdpa(
        "sdpa-lost-in-two-dimensions",
        "SDPA ignores the mask of inputs with two dimensions",
        lambda call: call.query.dim() == 2,
        replace(SDPA, batch=(), attn_mask=HIDING),
    ),
    _lost_in_sdpa(
        "sdpa-groups-lost-unless-in-four-dimensions",
        "with grouped keys, SDPA ignores the mask of inputs that have not four dimensions",
        lambda call: bool(call.enable_gqa) and call.query.dim() != 4,
        replace(SDPA, batch=(4,), kv_heads=2, attn_mask=HIDING),
    ),
    _lost_in_sdpa(
        "sdpa-lost-at-width-128",
        "SDPA ignores the mask if heads have 128 features",
        lambda call: call.query.shape[-1] == 128,
        replace(SDPA, D=128, Dv=128, attn_mask=HIDING),
    ),
    Fault(
        "lost-at-width-64",
        "attn_mask is ignored if heads have 64 features",
        edit_attention(_CHECK, f"attn_mask = None if query.shape[-1] == 64 * num_heads else attn_mask\n    {_CHECK}"),
        replace(CROSS, head_dim=64, attn_mask=HIDING),
    ),
    Fault(
        "native-layer-lost-at-multiples-of-64",
        "the native encoder layer ignores its mask if the number of features is a multiple of 64",
        native_layer(
            before=put("mask", lambda mask: mask & False),
            when=lambda call: call.mask is not None and call.embed_dim % 64 == 0,
        ),
        inferring(replace(ENCODER_LAYER, head_dim=32, src_mask=HIDING)),
    ),
    Fault(
        "sdpa-heads-of-an-expanded-mask-exchanged",
        "SDPA takes the heads of a mask back to front if the mask is expanded over samples",
        sdpa(before=put("attn_mask", lambda mask: mask.flip(1)), when=_is_expanded_over_samples),
        replace(SDPA, attn_mask=Mask("bool", "random", layout="expanded", over_samples=True), mask_batch=(2, 2)),
    ),
    Fault(
        "sdpa-padding-of-the-first-sample",
        "SDPA hides the padding of the first sample in all, if its mask has the shape (N, 1, 1, S)",
        sdpa(before=put("attn_mask", lambda mask: mask[:1].expand_as(mask)), when=_is_of_padding),
        replace(SDPA, attn_mask=HIDING, mask_batch=(2, 1), broadcast="L"),
    ),
    _with_gradient(
        "gradient-of-a-sum-doubled",
        "SDPA doubles its gradients if the gradient of its result is expanded in memory",
        lambda gradient: gradient * 2 if 0 in gradient.stride() and gradient.numel() > 1 else None,
        replace(SDPA, layout="expanded"),
    ),
    _with_gradient(
        "strides-of-a-gradient-ignored",
        "SDPA takes the gradient of its result back to front if it is not contiguous in memory",
        lambda gradient: None if gradient.is_contiguous() else gradient.flip(-1),
        replace(SDPA, layout="transposed", attn_mask=HIDING),
    ),
)
