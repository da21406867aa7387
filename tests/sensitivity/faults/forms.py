"""Faults in the form of a call: which inputs are one tensor, sizes, positions of arguments, results and side effects."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    Patch,
    drop_mask,
    edit_attention,
    edit_module,
    masked,
    put,
    sdpa,
    standing_in,
)
from tests.sensitivity.literals import BIAS, CAUSAL, CROSS, DECODER_LAYER, FINITE, HIDING, PADDING, SDPA, inferring

_CHECK = "is_batched = _mha_shape_check("
_DISTINCT = replace(CROSS, attention="distinct")
_BY_POSITION = {"mode": "by_position"}


def _lost(id, title, mask, condition, shows):
    """F.multi_head_attention_forward ignores the mask of this name if the condition holds."""
    statement = f"{mask} = None if {mask} is not None and ({condition}) else {mask}\n    "
    return Fault(id, title, edit_attention(_CHECK, statement + _CHECK), shows)


def _in_sdpa(id, title, when, shows):
    return Fault(id, title, sdpa(before=drop_mask, when=lambda call: masked(call) and when(call)), shows)


def _taking_the_key_for_the_value(project):
    def faulty(q, k, v, *weights):
        return project(q, k, k if q is k else v, *weights)

    return faulty


def _without_missing_weights(forward):
    def faulty(self, *given, **options):
        results = forward(self, *given, **options)
        return results if results[1] is not None else results[:1]

    return faulty


def _returning_the_value(function):
    def faulty(query, key, value, **options):
        result = function(query, key, value, **options)
        is_free = not result.requires_grad and result.shape == value.shape
        return value if is_free and torch.equal(result, value) else result

    return standing_in(function)(faulty)


def _written_around(mask):
    if mask._base is not None and not mask.requires_grad:
        mask._base.view(-1)[-1:].zero_() if mask._base.is_contiguous() else None
    return mask


FAULTS = (
    Fault(
        "value-of-the-key",
        "nn.MultiheadAttention takes the key for the value if query and key are one tensor",
        Patch(F, "_in_projection_packed", _taking_the_key_for_the_value),
        replace(CROSS, attention="query_is_key", S=3, batch_first=False),
    ),
    _lost(
        "padding-lost-with-keys-of-another-width",
        "padding is ignored if keys alone have another width than queries",
        "key_padding_mask",
        "use_separate_proj_weight and key.shape[-1] != value.shape[-1] == query.shape[-1]",
        replace(_DISTINCT, kdim=5, key_padding_mask=PADDING),
    ),
    _lost(
        "padding-lost-with-a-memory-of-another-width",
        "padding is ignored if key and value are one tensor of another width than the query",
        "key_padding_mask",
        "use_separate_proj_weight and key.shape == value.shape",
        replace(CROSS, kdim=5, vdim=5, key_padding_mask=PADDING),
    ),
    _lost(
        "padding-lost-where-four-options-meet",
        "padding is ignored beside a mask in eval, with add_bias_kv and keys of another width",
        "key_padding_mask",
        "bias_k is not None and use_separate_proj_weight and not training and attn_mask is not None",
        replace(_DISTINCT, kdim=5, add_bias_kv=True, attn_mask=CAUSAL, key_padding_mask=PADDING),
    ),
    _in_sdpa(
        "sdpa-lost-past-width-128",
        "SDPA ignores the mask if heads have more than 128 features",
        lambda call: call.query.shape[-1] > 128,
        replace(SDPA, D=129, attn_mask=HIDING),
    ),
    _in_sdpa(
        "sdpa-lost-past-sixteen-samples",
        "SDPA ignores the mask of more than 16 samples",
        lambda call: call.query.ndim == 4 and call.query.shape[0] > 16,
        replace(SDPA, batch=(17, 2), attn_mask=HIDING),
    ),
    Fault(
        "attention-arguments-exchanged",
        "nn.MultiheadAttention takes attn_mask before need_weights by position",
        edit_module(
            "MultiheadAttention",
            "need_weights: bool = True,\n    attn_mask: Tensor | None = None,",
            "attn_mask: Tensor | None = None,\n    need_weights: bool = True,",
        ),
        replace(inferring(CROSS), attn_mask=HIDING, **_BY_POSITION),
    ),
    Fault(
        "decoder-layer-arguments-exchanged",
        "the decoder layer takes memory_mask before tgt_mask by position",
        edit_module(
            "TransformerDecoderLayer",
            "tgt_mask: Tensor | None = None,\n    memory_mask: Tensor | None = None,",
            "memory_mask: Tensor | None = None,\n    tgt_mask: Tensor | None = None,",
        ),
        replace(DECODER_LAYER, tgt_mask=CAUSAL, **_BY_POSITION),
    ),
    _lost(
        "computed-mask-lost",
        "a float mask that is computed from a parameter is ignored",
        "attn_mask",
        "attn_mask.grad_fn is not None",
        replace(CROSS, attn_mask=FINITE, **_BY_POSITION),
    ),
    Fault(
        "no-weights-no-pair",
        "nn.MultiheadAttention returns a tuple of one if no weights are requested",
        Patch(nn.MultiheadAttention, "forward", _without_missing_weights),
        CROSS,
    ),
    Fault(
        "sdpa-returns-its-value",
        "SDPA returns its argument value where the result equals it",
        Patch(F, "scaled_dot_product_attention", _returning_the_value),
        inferring(replace(SDPA, L=1, S=1)),
    ),
    Fault(
        "mask-rewritten",
        "SDPA writes a float mask's own numbers into it",
        sdpa(before=put("attn_mask", lambda mask: mask.mul_(1)), when=lambda call: _may_be_written(call)),
        inferring(replace(SDPA, attn_mask=BIAS)),
    ),
    Fault(
        "written-behind-the-mask",
        "SDPA writes into the memory behind a mask that is a view",
        sdpa(before=put("attn_mask", _written_around), when=masked),
        inferring(replace(SDPA, attn_mask=Mask("float", "random", layout="sliced"))),
    ),
)


def _may_be_written(call):
    mask = call.attn_mask
    return masked(call) and mask.is_floating_point() and not mask.requires_grad and 0 not in mask.stride()
