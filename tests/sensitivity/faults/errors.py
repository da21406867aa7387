"""Faults of validation: wrong masks are accepted; right masks raise, cause warnings or are changed in place."""

import warnings
from dataclasses import replace

import torch

from tests.sensitivity.injection import Fault, canonical, edit, edit_attention, masked, put, sdpa
from tests.sensitivity.literals import ATTENTION, CROSS, FINITE, HIDING, PADDING, SDPA, weighing

F = torch.nn.functional


def _unchecked(id, title, function, condition, shows, new="False"):
    """A fault that disables a check in the function."""
    return _passing(id, title, edit(F, function, f"if {condition}:", f"if {new}:"), shows)


def _passing(*fault):
    """A fault whose only effect is that an error is not raised."""
    return Fault(*fault, lets_pass=True)


def _attend(L=3, S=4, **masks):
    """The output of nn.MultiheadAttention for inputs of ones."""
    module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    query, key = torch.ones(2, L, 4), torch.ones(2, S, 4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.5)
    return module(query, key, key, **masks)[0].detach()


def _ones(*shape, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype)


def _warn(mask, call):
    warnings.warn("masks may be slow", stacklevel=2)
    return mask


def _crop(call):
    call.attn_mask = call.attn_mask[..., : call.key.shape[-2]]


FAULTS = (
    _unchecked(
        "shape-2d-unchecked",
        "a 2-D mask of another shape is broadcast",
        "multi_head_attention_forward",
        "attn_mask.shape != correct_2d_size",
        lambda: _attend(attn_mask=_ones(1, 4)),
    ),
    _unchecked(
        "shape-3d-unchecked",
        "a 3-D mask of another shape is viewed or broadcast",
        "multi_head_attention_forward",
        "attn_mask.shape != correct_3d_size",
        lambda: _attend(attn_mask=_ones(1, 3, 4)),
    ),
    _unchecked(
        "queries-unchecked",
        "a 2-D mask with one row is accepted",
        "multi_head_attention_forward",
        "attn_mask.shape != correct_2d_size",
        lambda: _attend(attn_mask=_ones(1, 4)),
        new="attn_mask.shape[1] != src_len",
    ),
    _passing(
        "padding-samples-unchecked",
        "padding of one sample is taken for all",
        edit(F, "_check_key_padding_mask", "key_padding_mask.shape[0] == bsz", "key_padding_mask.shape[0] in (1, bsz)"),
        lambda: _attend(key_padding_mask=_ones(1, 4)),
    ),
    _passing(
        "padding-samples-broadcast",
        "padding of one sample is broadcast to all",
        edit_attention(
            "    # merge key padding and attention masks\n",
            "    if key_padding_mask is not None and key_padding_mask.shape[0] == 1:\n        key_padding_mask = key_padding_mask.expand(bsz, -1)\n",
        ),
        lambda: _attend(key_padding_mask=_ones(1, 4)),
    ),
    _passing(
        "padding-longer-cropped",
        "padding longer than the keys is cropped",
        edit_attention(
            "    # merge key padding and attention masks\n",
            "    if key_padding_mask is not None:\n        key_padding_mask = key_padding_mask[:, :src_len]\n",
        ),
        lambda: _attend(key_padding_mask=_ones(2, 5)),
    ),
    _passing(
        "padding-transposed-taken",
        "padding (S, N) is taken for (N, S)",
        edit(
            F,
            "_check_key_padding_mask",
            "torch._check_with(\n        AssertionError,\n        key_padding_mask.shape[0] == bsz,",
            "if key_padding_mask.shape == (src_len, bsz):\n        return\n    torch._check_with(\n        AssertionError,\n        key_padding_mask.shape[0] == bsz,",
        ),
        lambda: _attend(key_padding_mask=_ones(4, 2)),
    ),
    _unchecked(
        "integer-masks-taken",
        "integer masks are added",
        "_canonical_mask",
        "_mask_dtype != torch.bool and not _mask_is_float",
        lambda: _attend(attn_mask=_ones(3, 4, dtype=torch.int64)),
        new="_mask_dtype == torch.int64:\n            return mask.to(target_type)\n        if False",
    ),
    _unchecked(
        "byte-masks-as-bool",
        "uint8 masks count as bool",
        "_canonical_mask",
        "_mask_dtype != torch.bool and not _mask_is_float",
        lambda: _attend(attn_mask=_ones(3, 4, dtype=torch.uint8)),
        new="_mask_dtype == torch.uint8:\n            mask = mask.bool()\n        elif _mask_dtype != torch.bool and not _mask_is_float",
    ),
    _passing(
        "hint-without-mask-taken",
        "a causal hint without a mask is no error if weights are not requested",
        edit_attention(
            'if is_causal and attn_mask is None:\n        raise RuntimeError(\n            "Need',
            'if is_causal and attn_mask is None and need_weights:\n        raise RuntimeError(\n            "Need',
        ),
        lambda: _attend(L=4, is_causal=True, need_weights=False),
    ),
    _passing(
        "hint-without-mask-taken-beside-padding",
        "a causal hint without a mask is no error if padding is given",
        edit_attention(
            'if is_causal and attn_mask is None:\n        raise RuntimeError(\n            "Need',
            'if is_causal and attn_mask is key_padding_mask is None:\n        raise RuntimeError(\n            "Need',
        ),
        lambda: _attend(L=4, is_causal=True, key_padding_mask=_ones(2, 4, dtype=torch.bool)),
    ),
    _passing(
        "padding-dimensions-unchecked",
        "padding with an additional dimension is accepted",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "if key_padding_mask is not None and key_padding_mask.dim() == 3:\n        key_padding_mask = key_padding_mask.squeeze(1)\n    is_batched = _mha_shape_check(",
        ),
        lambda: _attend(key_padding_mask=_ones(2, 1, 4)),
    ),
    _passing(
        "flat-mask-taken",
        "a flat mask with the right number of elements is accepted",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "if attn_mask is not None and attn_mask.dim() == 1 and attn_mask.numel() == query.shape[0] * key.shape[0]:\n        attn_mask = attn_mask.view(query.shape[0], key.shape[0])\n    is_batched = _mha_shape_check(",
        ),
        lambda: _attend(attn_mask=_ones(12)),
    ),
    Fault(
        "sdpa-hint-beside-mask",
        "SDPA ignores its mask beside is_causal instead of refusing both",
        sdpa(before=put("attn_mask", lambda mask: None), when=lambda call: masked(call) and bool(call.is_causal)),
        lambda: F.scaled_dot_product_attention(
            _ones(1, 2, 2), _ones(1, 2, 2), _ones(1, 2, 2), _ones(2, 2), is_causal=True
        ),
    ),
    Fault(
        "sdpa-hint-beside-mask-of-groups",
        "SDPA ignores is_causal beside a mask if query heads share keys, instead of refusing both",
        sdpa(
            before=put("is_causal", lambda hint: False),
            when=lambda call: masked(call) and bool(call.is_causal and call.enable_gqa),
        ),
        lambda: F.scaled_dot_product_attention(
            _ones(1, 2, 2, 2), *[_ones(1, 1, 2, 2)] * 2, _ones(2, 2), is_causal=True, enable_gqa=True
        ),
    ),
    Fault(
        "sdpa-integer-mask-taken",
        "SDPA takes an integer mask for bool",
        sdpa(
            before=put("attn_mask", torch.Tensor.bool),
            when=lambda call: (
                masked(call) and not (call.attn_mask.is_floating_point() or call.attn_mask.dtype == torch.bool)
            ),
        ),
        lambda: F.scaled_dot_product_attention(
            _ones(1, 2, 2), _ones(1, 2, 2), _ones(1, 2, 2), _ones(2, 2, dtype=torch.int64)
        ),
    ),
    Fault(
        "sdpa-longer-mask-cropped",
        "SDPA crops a mask with too many keys",
        sdpa(before=_crop, when=lambda call: masked(call) and call.attn_mask.shape[-1:] > call.key.shape[-2:-1]),
        lambda: F.scaled_dot_product_attention(_ones(1, 2, 2), _ones(1, 2, 2), _ones(1, 2, 2), _ones(2, 3)),
    ),
    Fault(
        "sdpa-mask-cast",
        "SDPA casts a mask of another dtype",
        sdpa(
            before=lambda call: setattr(call, "attn_mask", call.attn_mask.to(call.query.dtype)),
            when=lambda call: (
                masked(call)
                and call.attn_mask.is_floating_point()
                and call.attn_mask.dtype != call.query.dtype
                and not call.attn_mask.requires_grad
            ),
        ),
        lambda: F.scaled_dot_product_attention(
            _ones(1, 2, 2), _ones(1, 2, 2), _ones(1, 2, 2), _ones(2, 2, dtype=torch.float64)
        ),
    ),
    Fault(
        "bool-mask-refused",
        "if weights are requested, a bool mask is refused without a batch",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "if attn_mask is not None and attn_mask.dtype == torch.bool and query.dim() == 2:\n        raise RuntimeError('attn_mask must be float')\n    is_batched = _mha_shape_check(",
        ),
        replace(CROSS, N=1, batched=False, functional=True, attn_mask=HIDING),
    ),
    Fault(
        "mask-and-hint-refused",
        "a mask beside a hint is refused",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "if attn_mask is not None and is_causal and need_weights:\n        raise RuntimeError('is_causal and attn_mask')\n    is_batched = _mha_shape_check(",
        ),
        weighing(replace(ATTENTION, attn_mask=replace(HIDING, pattern="causal"), is_causal=True)),
    ),
    Fault(
        "masks-warned-of",
        "every mask causes a warning",
        canonical(_warn, when=lambda call: call.mask is not None),
        replace(CROSS, attn_mask=HIDING),
    ),
    Fault(
        "mask-written-to",
        "a float mask is clamped in place",
        canonical(
            lambda mask, call: mask.detach().clamp_(min=-1e30) if not mask.requires_grad else mask,
            when=lambda call: call.mask is not None and call.mask.is_floating_point(),
        ),
        replace(CROSS, autograd="no_grad", attn_mask=replace(HIDING, form="float")),
    ),
    Fault(
        "padding-written-to",
        "bool padding is inverted in place",
        canonical(
            lambda mask, call: (mask, call.mask.logical_not_())[0],
            when=lambda call: (
                call.mask is not None and call.mask.dtype == torch.bool and call.mask_name == "key_padding_mask"
            ),
        ),
        replace(CROSS, autograd="no_grad", key_padding_mask=PADDING),
    ),
    Fault(
        "query-written-to",
        "SDPA scales the query in place",
        sdpa(before=lambda call: call.query.mul_(1.5), when=lambda call: masked(call) and not call.query.requires_grad),
        replace(SDPA, autograd="no_grad", attn_mask=FINITE),
    ),
)
