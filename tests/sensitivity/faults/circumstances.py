"""Faults that depend on earlier calls, trained parameters, flags of torch, or the way a mask is expanded."""

import functools
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import transformer

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    Patch,
    drop_mask,
    edit_attention,
    edit_helper,
    edit_module,
    masked,
    put,
    sdpa,
)
from tests.sensitivity.literals import (
    ATTENTION,
    CROSS,
    DECODER,
    ENCODER,
    ENCODER_LAYER,
    FINITE,
    HIDING,
    PADDING,
    SDPA,
    inferring,
)

_CHECK = "is_batched = _mha_shape_check("


def _keeping(is_kept):
    """Cache the result of the last call, and return it again for the same first argument if is_kept(argument) holds."""

    def make(original):
        kept = []

        @functools.wraps(original)
        def faulty(first, *args, **kwargs):
            key = args, tuple(kwargs.items())
            if not (kept and kept[0] is first and kept[1] == key):
                result = original(first, *args, **kwargs)
                if not is_kept(first):
                    return result
                kept[:] = first, key, result
            return kept[2]

        return faulty

    return make


def _is_bool(mask):
    return mask is not None and mask.dtype == torch.bool


def _is_unmapped(call):
    is_mapped = torch._C._functorch.is_batchedtensor
    return masked(call) and is_mapped(call.query) and not is_mapped(call.attn_mask)


def _is_mapped_alone(call):
    is_mapped = torch._C._functorch.is_batchedtensor
    return masked(call) and is_mapped(call.attn_mask) and not is_mapped(call.query)


def _first_of_mapped(mask):
    return torch._C._functorch.get_unwrapped(mask).select(torch._C._functorch.maybe_get_bdim(mask), 0)


def _is_mapped_elsewhere(call):
    """True if vmap maps the mask over another dimension than its first, and both have the same size."""
    if not (masked(call) and torch._C._functorch.is_batchedtensor(call.attn_mask)):
        return False
    whole, axis = torch._C._functorch.get_unwrapped(call.attn_mask), torch._C._functorch.maybe_get_bdim(call.attn_mask)
    return axis > 0 and whole.size(0) == whole.size(axis)


def _mapped_over_its_first(mask):
    level = torch._C._functorch.maybe_get_level(mask)
    return torch._C._functorch._add_batch_dim(torch._C._functorch.get_unwrapped(mask), 0, level)


def _is_expanded_over_heads(call):
    mask = call.attn_mask
    return masked(call) and mask.dim() == 4 and mask.size(1) > 1 and (mask == mask[:, :1]).all()


def _masks_given_and_kept():
    generate = nn.Transformer.generate_square_subsequent_mask
    generate(3).fill_(7)
    return generate(3)


def _mask_of_the_default_dtype():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return nn.Transformer.generate_square_subsequent_mask(2)
    finally:
        torch.set_default_dtype(before)


_NATIVE_WEIGHT = (
    "    self.in_proj_weight,\n                    self.in_proj_bias,"  # excludes the list of all parameters
)
_UNPARAMETRIZED_WEIGHT = _NATIVE_WEIGHT.replace(
    "in_proj_weight,",
    "parametrizations.in_proj_weight.original if hasattr(self, 'parametrizations') else self.in_proj_weight,",
)

FAULTS = (
    Fault(
        "mask-rounded-to-the-default-dtype",
        "F.multi_head_attention_forward rounds a mask of float32 to the default dtype",
        edit_attention(
            _CHECK,
            "if attn_mask is not None and attn_mask.dtype is torch.float32:\n"
            "        attn_mask = attn_mask.to(torch.get_default_dtype()).to(torch.float32)\n"
            f"    {_CHECK}",
        ),
        replace(CROSS, attn_mask=FINITE, dtype="float32", mode="default_dtype"),
    ),
    Fault(
        "padding-lost-among-deterministic-algorithms",
        "F.multi_head_attention_forward ignores padding under torch.use_deterministic_algorithms",
        edit_attention(
            _CHECK,
            f"if torch.are_deterministic_algorithms_enabled():\n        key_padding_mask = None\n    {_CHECK}",
        ),
        replace(CROSS, key_padding_mask=PADDING, mode="deterministic"),
    ),
    Fault(
        "converted-mask-kept",
        "the float form of a bool mask is cached, and later writes to the mask are not seen",
        Patch(F, "_canonical_mask", _keeping(_is_bool)),
        replace(CROSS, S=5, key_padding_mask=PADDING, mode="reused"),
    ),
    Fault(
        "hooks-unseen",
        "TransformerEncoderLayer takes its native path although its parts have hooks",
        edit_module(
            "TransformerEncoderLayer",
            'len(getattr(m, "_forward_hooks", {}))\n        + len(getattr(m, "_forward_pre_hooks", {}))',
            "False",
        ),
        inferring(replace(ENCODER_LAYER, mode="pruned", src_mask=FINITE)),
    ),
    Fault(
        "weight-norm-lost",
        "torch.nn.utils.parametrizations.weight_norm and weight_norm ignore the length of a weight",
        Patch(torch, "_weight_norm", lambda _: lambda direction, length, dim=0: direction),
        replace(CROSS, mode="weight_normed", autograd="no_grad"),
    ),
    Fault(
        "output-bias-not-trained",
        "MultiheadAttention takes its native path although the output bias is trained",
        edit_module("MultiheadAttention", "for x in tensor_args\n", "for x in tensor_args[:-1]\n"),
        replace(ATTENTION, autograd="one_parameter", key_padding_mask=PADDING, seed=3),
    ),
    Fault(
        "native-parametrization-passed-over",
        "the native path of MultiheadAttention ignores the parametrization of a weight",
        edit_module("MultiheadAttention", _NATIVE_WEIGHT, _UNPARAMETRIZED_WEIGHT),
        inferring(replace(ATTENTION, key_padding_mask=PADDING, mode="parametrized")),
    ),
    Fault(
        "norms-not-trained",
        "TransformerEncoderLayer takes its native path although a norm is trained",
        edit_module(
            "TransformerEncoderLayer",
            "any(x.requires_grad for x in tensor_args)",
            "any(x.requires_grad for x in tensor_args[:7])",
        ),
        replace(ENCODER_LAYER, autograd="one_parameter", src_key_padding_mask=PADDING, seed=10),
    ),
    Fault(
        "native-layer-for-any-activation",
        "TransformerEncoderLayer takes its native path although its activation is another one",
        edit_module("TransformerEncoderLayer", "not self.activation_relu_or_gelu", "False"),
        inferring(replace(ENCODER_LAYER, activation="silu", src_key_padding_mask=PADDING)),
    ),
    Fault(
        "sdpa-unmapped-mask-lost",
        "under vmap, SDPA ignores a mask that is not mapped",
        sdpa(before=drop_mask, when=_is_unmapped),
        inferring(replace(CROSS, attn_mask=HIDING, mode="vmap_of_sequences")),
    ),
    Fault(
        "sdpa-mapped-mask-of-the-first",
        "under vmap over the mask alone, the first mask is used for all",
        sdpa(before=put("attn_mask", _first_of_mapped), when=_is_mapped_alone),
        inferring(replace(CROSS, attn_mask=HIDING, mode="vmap_of_masks")),
    ),
    Fault(
        "sdpa-mask-mapped-over-its-first",
        "under vmap, a mask is mapped over its first dimension instead of another one of the same size",
        sdpa(before=put("attn_mask", _mapped_over_its_first), when=_is_mapped_elsewhere),
        replace(SDPA, L=2, attn_mask=Mask("bool", "random"), mode="vmap_of_masks"),
    ),
    Fault(
        "sdpa-batch-dimensions-exchanged",
        "the two batch dimensions of a 5-D mask are exchanged if they are equal",
        sdpa(
            before=put("attn_mask", lambda mask: mask.transpose(0, 1)),
            when=lambda call: (
                masked(call) and call.attn_mask.dim() == 5 and call.attn_mask.size(0) == call.attn_mask.size(1)
            ),
        ),
        replace(SDPA, batch=(2, 2, 3), mask_batch=(2, 2, 1), attn_mask=HIDING),
    ),
    Fault(
        "sdpa-scale-zero-not-given",
        "SDPA takes a scale of 0 for the default scale",
        sdpa(before=put("scale", lambda scale: scale or None)),
        replace(SDPA, scale=0.0),
    ),
    Fault(
        "sdpa-first-sample-over-heads",
        "if a mask is the same for all heads, the mask of the first sample is used for all",
        sdpa(before=put("attn_mask", lambda mask: mask[:1].expand_as(mask)), when=_is_expanded_over_heads),
        replace(SDPA, mask_batch=(2, 2), attn_mask=Mask("bool", "random", over_heads=True)),
    ),
    Fault(
        "causality-remembered",
        "the result of the check for a causal mask is cached, and later writes to the mask are not seen",
        Patch(transformer, "_detect_is_causal_mask", _keeping(lambda mask: mask is not None)),
        replace(ENCODER, src_mask=FINITE, mode="reused"),
    ),
    Fault(
        "causality-within-tolerance",
        "a mask within 0.01 of a causal mask is taken for causal",
        edit_helper(
            "_detect_is_causal_mask",
            "bool((mask == causal_comparison).all())",
            "torch.allclose(mask.double(), causal_comparison.double(), rtol=0, atol=0.01)",
        ),
        replace(DECODER, tgt_mask=Mask("float", "causal", "slight")),
    ),
    Fault(
        "causal-mask-shared",
        "generate_square_subsequent_mask returns the tensor of the previous call",
        Patch(transformer, "_generate_square_subsequent_mask", functools.cache),
        _masks_given_and_kept,
    ),
    Fault(
        "causal-mask-of-one-dtype",
        "generate_square_subsequent_mask ignores the default dtype",
        edit_helper("_generate_square_subsequent_mask", "dtype=dtype, dev", "dtype=dtype or torch.float32, dev"),
        _mask_of_the_default_dtype,
    ),
    Fault(
        "padding-lost-for-a-subclass",
        "F.multi_head_attention_forward ignores padding if its tensors are of a subclass",
        edit_attention(
            "training=training,\n            key_padding_mask=key_padding_mask,\n            need_weights=need_weights,",
            "training=training,\n            key_padding_mask=None,\n            need_weights=need_weights,",
        ),
        replace(CROSS, key_padding_mask=PADDING, mode="subclassed"),
    ),
    Fault(
        "attention-switch-ignored",
        "nn.MultiheadAttention takes its fast path though it is switched off",
        edit_module("MultiheadAttention", "if not is_fastpath_enabled:", "if False:"),
        replace(inferring(ATTENTION), attn_mask=HIDING, fast_path=False),
    ),
    Fault(
        "layer-switch-ignored",
        "nn.TransformerEncoderLayer takes its fast path though it is switched off",
        edit_module("TransformerEncoderLayer", "if not is_fastpath_enabled:", "if False:"),
        replace(inferring(ENCODER_LAYER), fast_path=False),
    ),
    Fault(
        "backend-choice-ignored",
        "sdpa_kernel restricts nothing",
        Patch(torch.nn.attention, "sdpa_kernel", lambda restrict: lambda *backends, **options: nullcontext()),
        replace(inferring(SDPA), attn_mask=HIDING, mode="sdpa_math"),
    ),
    Fault(
        "fast-path-in-sequence-first",
        "the fast path of nn.MultiheadAttention serves batch_first=False, too, and takes lengths for samples",
        edit_module("MultiheadAttention", "elif not self.batch_first:", "elif False:"),
        replace(inferring(ATTENTION), batch_first=False),
    ),
    Fault(
        "fast-path-with-zero-attention",
        "the fast path of nn.MultiheadAttention serves add_zero_attn, too, and appends nothing",
        edit_module("MultiheadAttention", "elif self.add_zero_attn:", "elif False:"),
        replace(inferring(ATTENTION), add_zero_attn=True),
    ),
)
