"""Faults under a condition that few calls meet."""

from dataclasses import replace

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    at,
    bool_mask,
    canonical,
    drop_mask,
    edit_attention,
    edit_module,
    float_mask,
    has_mask,
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
    CAUSAL,
    CROSS,
    DECODER,
    ENCODER,
    ENCODER_LAYER,
    FINITE,
    HIDING,
    PADDING,
    PER_HEAD,
    SCATTERED,
    SDPA,
    TRANSFORMER,
    inferring,
    weighing,
)

_CHECK = "is_batched = _mha_shape_check("


def _lost(id, title, condition, shows):
    """F.multi_head_attention_forward ignores attn_mask if the condition holds."""
    statement = f"attn_mask = None if attn_mask is not None and ({condition}) else attn_mask\n    "
    return Fault(id, title, edit_attention(_CHECK, statement + _CHECK), shows)


def _lost_padding(id, title, condition, shows):
    """F.multi_head_attention_forward ignores key_padding_mask if the condition holds."""
    statement = f"key_padding_mask = None if {condition} else key_padding_mask\n    "
    return Fault(id, title, edit_attention(_CHECK, statement + _CHECK), shows)


def _in_sdpa(id, title, when, shows, before=drop_mask):
    return Fault(id, title, sdpa(before=before, when=lambda call: masked(call) and when(call)), shows)


def _in_native_layer(id, title, when, shows):
    return Fault(
        id, title, native_layer(before=put("mask", visible), when=lambda call: has_mask(call) and when(call)), shows
    )


_MASKED = replace(CROSS, attn_mask=HIDING)
_PADDED = replace(CROSS, key_padding_mask=PADDING)
_SDPA = replace(SDPA, attn_mask=HIDING)
_NATIVE = inferring(replace(ENCODER_LAYER, src_mask=HIDING))
_last_key_visible = put("attn_mask", at((..., slice(-1, None))))

FAULTS = (
    _lost("lost-with-one-head", "attn_mask is ignored with one head", "num_heads == 1", replace(_MASKED, num_heads=1)),
    _lost(
        "lost-with-odd-head-width",
        "attn_mask is ignored if head_dim is odd",
        "(query.shape[-1] // num_heads) % 2",
        replace(_MASKED, head_dim=3),
    ),
    _lost(
        "lost-with-wide-heads",
        "attn_mask is ignored if head_dim is above 16",
        "query.shape[-1] // num_heads > 16",
        replace(_MASKED, head_dim=17),
    ),
    _lost(
        "lost-without-batch",
        "attn_mask is ignored without a batch",
        "query.dim() == 2",
        replace(_MASKED, N=1, batched=False),
    ),
    _lost(
        "lost-with-one-sample",
        "a 3-D attn_mask is ignored with a batch of one",
        "query.dim() == 3 and query.shape[1] == 1 and attn_mask.dim() == 3",
        replace(CROSS, N=1, attn_mask=PER_HEAD),
    ),
    _lost(
        "lost-with-fewer-queries",
        "attn_mask is ignored if there are fewer queries than keys",
        "query.shape[0] < key.shape[0]",
        _MASKED,
    ),
    _lost(
        "lost-with-more-queries",
        "attn_mask is ignored if there are more queries than keys",
        "query.shape[0] > key.shape[0]",
        replace(_MASKED, L=5),
    ),
    _lost("lost-past-64-keys", "attn_mask is ignored past 64 keys", "key.shape[0] > 64", replace(_MASKED, S=65)),
    _lost(
        "lost-past-128-queries",
        "attn_mask is ignored past 128 queries",
        "query.shape[0] > 128",
        replace(_MASKED, L=129),
    ),
    _lost(
        "lost-with-one-key",
        "attn_mask is ignored with one key",
        "key.shape[0] == 1",
        replace(CROSS, S=1, attn_mask=FINITE, attention="cross", add_zero_attn=True),
    ),
    _lost("lost-with-one-query", "attn_mask is ignored with one query", "query.shape[0] == 1", replace(_MASKED, L=1)),
    _lost(
        "lost-in-float32",
        "a 3-D attn_mask is ignored in float32",
        "attn_mask.dim() == 3 and query.dtype == torch.float32",
        replace(CROSS, dtype="float32", attn_mask=PER_HEAD),
    ),
    _lost(
        "lost-with-static-keys",
        "attn_mask is ignored if static keys are given",
        "static_k is not None",
        replace(_MASKED, functional=True, static=True),
    ),
    _lost(
        "lost-with-bias-keys",
        "attn_mask is ignored beside add_bias_kv in training",
        "bias_k is not None and training",
        replace(_MASKED, add_bias_kv=True, training=True),
    ),
    _lost(
        "lost-without-biases",
        "attn_mask is ignored if the projections have no bias",
        "in_proj_bias is None",
        replace(_MASKED, bias=False),
    ),
    _lost(
        "lost-beside-padding-with-weights",
        "attn_mask is ignored beside padding if the weights of each head are requested",
        "key_padding_mask is not None and need_weights and not average_attn_weights",
        weighing(replace(_MASKED, key_padding_mask=SCATTERED), average=False),
    ),
    _lost(
        "lost-with-three-heads",
        "attn_mask is ignored with three heads",
        "num_heads == 3",
        replace(_MASKED, num_heads=3),
    ),
    _lost(
        "lost-under-no-grad",
        "attn_mask is ignored under no_grad, outside the native paths",
        "not torch.is_grad_enabled()",
        replace(_MASKED, autograd="no_grad"),
    ),
    _lost_padding(
        "padding-lost-without-batch",
        "padding is ignored without a batch",
        "query.dim() == 2",
        replace(_PADDED, N=1, batched=False),
    ),
    _lost_padding(
        "padding-lost-in-three-samples",
        "padding is ignored with three samples or more",
        "query.dim() == 3 and query.shape[1] > 2",
        replace(_PADDED, N=3),
    ),
    _lost_padding(
        "padding-lost-past-32-keys", "padding is ignored past 32 keys", "key.shape[0] > 32", replace(_PADDED, S=33)
    ),
    _lost_padding(
        "padding-lost-with-zero-key",
        "padding is ignored beside add_zero_attn",
        "add_zero_attn",
        replace(_PADDED, add_zero_attn=True),
    ),
    _lost_padding(
        "padding-lost-with-static-keys",
        "padding is ignored if static keys are given",
        "static_k is not None",
        replace(_PADDED, functional=True, static=True),
    ),
    _lost_padding(
        "padding-lost-where-trailing",
        "padding is ignored if it is the same in all samples",
        "key_padding_mask is not None and key_padding_mask.dim() == 2 and bool((key_padding_mask == key_padding_mask[:1]).all()) and query.shape[1] > 1",
        replace(CROSS, key_padding_mask=Mask("bool", "trailing"), seed=1),
    ),
    _in_sdpa(
        "sdpa-lost-past-512-keys",
        "SDPA ignores the last key's mask past 512 keys",
        lambda call: call.key.shape[-2] > 512 and call.attn_mask.dim() > 1 and call.attn_mask.shape[-1] > 1,
        replace(SDPA, S=513, attn_mask=Mask("bool", "last_column")),
        before=_last_key_visible,
    ),
    _in_sdpa(
        "sdpa-lost-past-32-queries",
        "SDPA ignores the mask of the last query past 32",
        lambda call: call.query.shape[-2] > 32 and call.attn_mask.dim() > 1 and call.attn_mask.shape[-2] > 1,
        replace(_SDPA, L=33),
        before=put("attn_mask", at((..., slice(-1, None), slice(None)))),
    ),
    _in_sdpa(
        "sdpa-lost-past-192-queries",
        "SDPA ignores the mask past 192 queries",
        lambda call: call.query.shape[-2] > 192,
        replace(_SDPA, L=193),
    ),
    _in_sdpa(
        "sdpa-lost-with-scale",
        "SDPA ignores a float mask if a scale is given",
        lambda call: float_mask(call) and call.scale is not None,
        replace(SDPA, attn_mask=FINITE, scale=0.5),
    ),
    _in_sdpa(
        "sdpa-lost-at-width-one",
        "SDPA ignores the mask if heads have one feature",
        lambda call: call.query.shape[-1] == 1,
        replace(_SDPA, D=1),
    ),
    _in_sdpa(
        "sdpa-lost-past-width-64",
        "SDPA ignores the mask if heads have more than 64 features",
        lambda call: call.query.shape[-1] > 64,
        replace(_SDPA, D=65, Dv=65),
    ),
    _in_sdpa(
        "sdpa-lost-with-other-value-width",
        "SDPA ignores the mask if values and keys differ in width",
        lambda call: call.query.shape[-1] != call.value.shape[-1],
        replace(_SDPA, Dv=3),
    ),
    _in_sdpa(
        "sdpa-lost-in-three-dimensions",
        "SDPA ignores the mask of inputs with three dimensions",
        lambda call: call.query.dim() == 3,
        replace(_SDPA, batch=(3,)),
    ),
    _in_sdpa(
        "sdpa-lost-in-inference-mode",
        "SDPA ignores a bool mask in inference_mode",
        lambda call: bool_mask(call) and torch.is_inference_mode_enabled(),
        replace(_SDPA, autograd="inference_mode"),
    ),
    _in_sdpa(
        "sdpa-lost-in-prime-lengths",
        "SDPA ignores the mask of 17 keys",
        lambda call: call.key.shape[-2] == 17,
        replace(_SDPA, S=17),
    ),
    _in_sdpa(
        "sdpa-lost-where-mask-is-learned",
        "SDPA ignores positive numbers of a mask that requires a gradient",
        lambda call: call.attn_mask.requires_grad,
        replace(SDPA, attn_mask=BIAS),
        before=put("attn_mask", lambda mask: mask.clamp(max=0)),
    ),
    _in_sdpa(
        "sdpa-one-dimensional-lost",
        "SDPA ignores a mask of one dimension",
        lambda call: call.attn_mask.dim() == 1,
        replace(SDPA, batch=(3,), attn_mask=HIDING, broadcast="1-D"),
    ),
    _in_sdpa(
        "sdpa-third-sample-unmasked",
        "SDPA ignores the mask of the third sample",
        lambda call: call.attn_mask.dim() == 4 and call.attn_mask.shape[0] > 2,
        replace(_SDPA, batch=(3, 2), mask_batch=(3, 2)),
        before=put("attn_mask", at(2)),
    ),
    _in_sdpa(
        "sdpa-lost-on-the-diagonal",
        "SDPA never hides the last diagonal element of a square mask past 7",
        lambda call: call.attn_mask.dim() > 1 and call.attn_mask.shape[-1] == call.attn_mask.shape[-2] > 7,
        replace(SDPA, L=8, S=8, attn_mask=Mask("bool", "anti_causal")),
        before=put("attn_mask", at((..., -1, -1))),
    ),
    _in_native_layer(
        "native-layer-lost-in-inference-mode",
        "the native encoder layer ignores its mask in inference_mode",
        lambda call: torch.is_inference_mode_enabled(),
        replace(_NATIVE, autograd="inference_mode"),
    ),
    _in_native_layer(
        "native-layer-lost-with-norm-first",
        "the native encoder layer ignores its mask with norm_first",
        lambda call: call.norm_first,
        replace(_NATIVE, norm_first=True),
    ),
    _in_native_layer(
        "native-layer-lost-with-gelu",
        "the native encoder layer ignores padding without a mask with GELU",
        lambda call: call.use_gelu and call.mask_type == 1,
        inferring(replace(ENCODER_LAYER, src_key_padding_mask=PADDING)),
    ),
    _in_native_layer(
        "native-layer-lost-where-frozen",
        "the native encoder layer ignores its mask if autograd is on",
        lambda call: torch.is_grad_enabled(),
        replace(_NATIVE, autograd="frozen"),
    ),
    _in_native_layer(
        "native-layer-lost-at-multiples-of-eight",
        "the native encoder layer ignores the mask if the number of keys is a multiple of 8, from 16 on",
        lambda call: call.mask.shape[-1] >= 16 and call.mask.shape[-1] % 8 == 0,
        replace(_NATIVE, S=16),
    ),
    _in_native_layer(
        "native-layer-lost-with-four-heads",
        "the native encoder layer ignores its mask with four heads",
        lambda call: call.num_heads == 4,
        replace(_NATIVE, num_heads=4),
    ),
    _in_native_layer(
        "native-layer-lost-in-float32",
        "the native encoder layer ignores padding in float32",
        lambda call: call.src.dtype == torch.float32 and call.mask_type == 1,
        inferring(replace(ENCODER_LAYER, dtype="float32", src_key_padding_mask=PADDING)),
    ),
    Fault(
        "native-attention-lost-beside-weights",
        "the native attention ignores padding if weights are not requested",
        native_attention(
            before=put("mask", visible),
            when=lambda call: has_mask(call) and call.mask_type == 1 and not call.need_weights,
        ),
        inferring(replace(ATTENTION, key_padding_mask=PADDING)),
    ),
    Fault(
        "native-attention-lost-past-32",
        "the native attention hides another key past 32",
        native_attention(
            before=put("mask", lambda mask: mask.roll(1, -1)),
            when=lambda call: has_mask(call) and call.mask.shape[-1] > 32,
        ),
        inferring(replace(ATTENTION, L=33, S=33, key_padding_mask=PADDING)),
    ),
    Fault(
        "encoder-lost-without-nested",
        "TransformerEncoder ignores padding if nested tensors are switched off",
        edit_module(
            "TransformerEncoder",
            "src_key_padding_mask_for_layers = src_key_padding_mask\n",
            "src_key_padding_mask_for_layers = src_key_padding_mask if self.enable_nested_tensor else None\n",
        ),
        replace(ENCODER, enable_nested_tensor=False, src_key_padding_mask=PADDING),
    ),
    Fault(
        "encoder-lost-with-three-layers",
        "TransformerEncoder of three layers ignores the mask",
        edit_module("TransformerEncoder", "src_mask=mask", "src_mask=mask if self.num_layers < 3 else None"),
        replace(ENCODER, num_layers=3, src_mask=HIDING),
    ),
    Fault(
        "decoder-lost-with-short-target",
        "TransformerDecoder ignores tgt_mask if the target is shorter than the memory",
        edit_module(
            "TransformerDecoder", "tgt_mask=tgt_mask", "tgt_mask=tgt_mask if tgt.numel() >= memory.numel() else None"
        ),
        replace(DECODER, tgt_mask=HIDING),
    ),
    Fault(
        "decoder-lost-with-four-masks",
        "TransformerDecoder ignores tgt_key_padding_mask if all four masks are given",
        edit_module(
            "TransformerDecoder",
            "tgt_key_padding_mask=tgt_key_padding_mask",
            "tgt_key_padding_mask=tgt_key_padding_mask if None in (tgt_mask, memory_mask, memory_key_padding_mask) else None",
        ),
        replace(
            DECODER,
            tgt_mask=CAUSAL,
            memory_mask=HIDING,
            tgt_key_padding_mask=SCATTERED,
            memory_key_padding_mask=PADDING,
        ),
    ),
    Fault(
        "transformer-lost-sequence-first",
        "nn.Transformer ignores memory_key_padding_mask with batch_first=False",
        edit_module(
            "Transformer",
            "memory_key_padding_mask=memory_key_padding_mask",
            "memory_key_padding_mask=memory_key_padding_mask if self.batch_first else None",
        ),
        replace(TRANSFORMER, batch_first=False, memory_key_padding_mask=PADDING),
    ),
    Fault(
        "padding-all-false-hides",
        "a padding mask that hides nothing hides the last key",
        canonical(
            lambda mask, call: (
                mask if mask.ne(0).any() or mask.shape[-1] < 2 else at((..., -1), lambda part: part - torch.inf)(mask)
            ),
            when=lambda call: call.mask is not None and call.mask_name == "key_padding_mask",
        ),
        replace(CROSS, key_padding_mask=Mask("bool", "none")),
    ),
    Fault(
        "fast-path-off-unmasked",
        "with the fast path switched off, nn.MultiheadAttention ignores padding",
        edit_module(
            "MultiheadAttention",
            "is_fastpath_enabled = torch.backends.mha.get_fastpath_enabled()",
            "is_fastpath_enabled = torch.backends.mha.get_fastpath_enabled()\n    key_padding_mask = key_padding_mask if is_fastpath_enabled else None",
        ),
        replace(_PADDED, fast_path=False),
    ),
    Fault(
        "one-tensor-thrice",
        "if query and key are the same tensor and autograd records, the first query sees everything",
        edit_attention(
            _CHECK,
            "if query is key and attn_mask is not None and not need_weights:\n        attn_mask = attn_mask.clone()\n        attn_mask[..., :1, :] = 0\n    "
            + _CHECK,
        ),
        replace(ATTENTION, attn_mask=HIDING),
    ),
    Fault(
        "encoder-layer-empty-padding",
        "the encoder layer ignores its mask if a sample is all padding",
        edit_module(
            "TransformerEncoderLayer",
            "x = src\n",
            "x = src\n    if src_key_padding_mask is not None and src_mask is not None and bool(src_key_padding_mask.isneginf().all(-1).any()):\n        src_mask = None\n",
        ),
        replace(ENCODER_LAYER, src_mask=BIAS, src_key_padding_mask=Mask("bool", "sample")),
    ),
)
