"""Faults that show in forms of call that are common in models, and rare in tests."""

from dataclasses import replace
from importlib import import_module

from torch.nn.attention.bias import CausalBias

from tests.harness.cases.case import LEARNED, FlexAttention
from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    drop_mask,
    edit,
    edit_attention,
    edit_module,
    masked,
    put,
    sdpa,
)
from tests.sensitivity.literals import ATTENTION, BIAS, CROSS, ENCODER, HIDING, PADDING, SDPA, TRANSFORMER

_CHECK = "is_batched = _mha_shape_check("


def _in_attention(id, title, statement, shows):
    """The fault that F.multi_head_attention_forward executes the statement first."""
    return Fault(id, title, edit_attention(_CHECK, f"{statement}\n    {_CHECK}"), shows)


def _unmasked(id, title, when, shows):
    """The fault that scaled_dot_product_attention ignores the mask in calls for which when(call) holds."""
    return Fault(id, title, sdpa(before=drop_mask, when=lambda call: masked(call) and when(call)), shows)


def _splits_heads(call):
    query = call.query
    if query.is_nested or query.dim() != 4 or min(query.shape) < 2:
        return False
    return query.stride(-1) == 1 and query.stride(0) > query.stride(2) > query.stride(1) > 0


def _expands_heads(call):
    key = call.key
    return not key.is_nested and key.dim() == 4 and key.shape[1] > 1 and key.stride(1) == 0 != call.query.stride(1)


FAULTS = (
    _unmasked(
        "split-heads-unmasked",
        "SDPA ignores the mask if heads are split off the features of its inputs, and transposed",
        _splits_heads,
        replace(SDPA, attn_mask=HIDING, layout="swapped"),
    ),
    _unmasked(
        "expanded-heads-unmasked",
        "SDPA ignores the mask if the heads of its key are one that is expanded",
        _expands_heads,
        replace(SDPA, attn_mask=HIDING, layout="expanded"),
    ),
    _unmasked(
        "groups-of-one-unmasked",
        "SDPA ignores the mask with enable_gqa if key and query have equally many heads",
        lambda call: bool(call.enable_gqa) and call.query.dim() > 2 and call.query.shape[-3] == call.key.shape[-3] > 1,
        replace(SDPA, attn_mask=HIDING, kv_heads=2),
    ),
    _unmasked(
        "wide-heads-unmasked",
        "SDPA ignores the mask if heads have 80, 96 or 112 features",
        lambda call: call.query.shape[-1] in (80, 96, 112),
        replace(SDPA, attn_mask=HIDING, D=80, Dv=80),
    ),
    Fault(
        "scale-of-one-taken-for-the-default",
        "SDPA takes scale=1.0 for the default scale",
        sdpa(before=put("scale", lambda _: None), when=lambda call: call.scale == 1.0),
        replace(SDPA, scale=1.0),
    ),
    _in_attention(
        "expanded-queries-unmasked",
        "F.multi_head_attention_forward ignores attn_mask if its query is one sample that is expanded",
        "attn_mask = None if query.dim() == 3 and query.shape[1] > 1 and query.stride(1) == 0 else attn_mask",
        replace(CROSS, attn_mask=HIDING, layout="expanded"),
    ),
    _in_attention(
        "bias-unlearned-beside-plain-inputs",
        "a float attn_mask gets no gradient beside parameters that do and a query that does not",
        "learns = in_proj_weight is not None and in_proj_weight.requires_grad and not query.requires_grad\n"
        "    attn_mask = attn_mask.detach() if learns and attn_mask is not None else attn_mask",
        replace(CROSS, attn_mask=BIAS, autograd=LEARNED),
    ),
    _in_attention(
        "many-samples-unpadded",
        "F.multi_head_attention_forward ignores key_padding_mask for 32 samples or more",
        "key_padding_mask = None if query.dim() == 3 and query.shape[1] >= 32 else key_padding_mask",
        replace(ATTENTION, key_padding_mask=PADDING, N=33),
    ),
    Fault(
        "causal-bias-lost-under-dropout",
        "causal_lower_right hides nothing under dropout",
        edit(
            CausalBias,
            "_dispatch",
            "attn_mask=attn_mask._materialize(query.device)",
            "attn_mask=None if dropout_p > 0 else attn_mask._materialize(query.device)",
        ),
        replace(SDPA, mode="causal_lower_right", attn_mask=Mask("bool", "lower_right"), dropout=0.5),
    ),
    Fault(
        "third-mask-mod-lost",
        "and_masks ignores all functions past the second",
        edit(import_module("torch.nn.attention.flex_attention"), "and_masks", "in mask_mods:", "in mask_mods[:2]:"),
        FlexAttention(batch=(2, 2), L=3, S=4, D=4, Dv=4, kept_mask=Mask("bool", "causal"), joined="and"),
    ),
    Fault(
        "source-mask-lost-if-it-is-that-of-the-target",
        "Transformer ignores src_mask if it is the tensor of tgt_mask",
        edit_module(
            "Transformer", "\n        mask=src_mask", "\n        mask=None if src_mask is tgt_mask else src_mask"
        ),
        replace(TRANSFORMER, mode="shared_masks", seed=3, S=3, src_mask=HIDING, tgt_mask=HIDING, memory_mask=HIDING),
    ),
    Fault(
        "sixth-layer-unmasked",
        "TransformerEncoder gives its mask to five layers at most",
        edit_module("TransformerEncoder", "src_mask=mask", "src_mask=mask if mod in list(self.layers)[:5] else None"),
        replace(ENCODER, src_mask=HIDING, num_layers=6),
    ),
    Fault(
        "mask-lost-beside-inputs-of-inference",
        "TransformerEncoder ignores a mask that was made outside of inference_mode beside inputs made inside",
        edit_module(
            "TransformerEncoder",
            "    src_key_padding_mask = F._canonical_mask(",
            "    mask = None if mask is not None and src.is_inference() > mask.is_inference() else mask\n"
            "    src_key_padding_mask = F._canonical_mask(",
        ),
        replace(ENCODER, autograd="inference_mode", seed=3, src_mask=HIDING),
    ),
)
