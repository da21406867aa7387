"""Faults of polarity: hidden and kept positions are exchanged."""

from dataclasses import replace

import torch

from tests.sensitivity.injection import (
    Fault,
    bool_mask,
    canonical,
    edit,
    edit_attention,
    edit_module,
    float_mask,
    native_attention,
    native_layer,
    put,
    sdpa,
)
from tests.sensitivity.literals import (
    ATTENTION,
    CROSS,
    DECODER,
    DECODER_LAYER,
    ENCODER,
    ENCODER_LAYER,
    FINITE,
    HIDING,
    PADDING,
    SDPA,
    inferring,
)

F = torch.nn.functional

FAULTS = (
    Fault(
        "bool-mask-inverted",
        "a bool mask keeps the keys that it should hide",
        edit(F, "_canonical_mask", "mask, float", "~mask, float"),
        replace(ATTENTION, attn_mask=HIDING),
    ),
    Fault(
        "sdpa-bool-inverted",
        "SDPA hides where a bool mask is True",
        sdpa(before=put("attn_mask", torch.logical_not), when=bool_mask),
        replace(SDPA, attn_mask=HIDING),
    ),
    Fault(
        "sdpa-float-negated",
        "SDPA subtracts a float mask where it is finite",
        sdpa(before=put("attn_mask", lambda mask: torch.where(mask.isfinite(), -mask, mask)), when=float_mask),
        replace(SDPA, attn_mask=FINITE),
    ),
    Fault(
        "functional-bool-inverted",
        "F.multi_head_attention_forward keeps where a bool mask is True, unlike the module",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "if attn_mask is not None and attn_mask.dtype == torch.bool:\n"
            "        attn_mask = ~attn_mask\n"
            "    is_batched = _mha_shape_check(",
        ),
        replace(CROSS, functional=True, attn_mask=HIDING),
    ),
    Fault(
        "padding-inverted-in-nested",
        "the nested path packs the padding and drops the content",
        edit_module(
            "TransformerEncoder",
            "src_key_padding_mask.logical_not(), mask_check",
            "src_key_padding_mask.bool(), mask_check",
        ),
        inferring(replace(ENCODER, src_key_padding_mask=PADDING)),
    ),
    Fault(
        "memory-padding-inverted",
        "the decoder attends to the padding of the memory alone",
        edit_module(
            "TransformerDecoderLayer",
            "key_padding_mask=key_padding_mask,",
            "key_padding_mask=None if key_padding_mask is None or key_padding_mask.dtype != torch.bool else ~key_padding_mask,",
            method="_mha_block",
        ),
        replace(DECODER_LAYER, memory_key_padding_mask=PADDING),
    ),
    Fault(
        "padding-alone-inverted",
        "a bool padding mask is inverted if no attention mask is given",
        canonical(
            lambda mask, call: torch.where(mask == 0, -torch.inf, 0.0).to(mask),
            when=lambda call: (
                call.mask is not None
                and call.mask.dtype == torch.bool
                and call.mask_name == "key_padding_mask"
                and call.other_type is None
            ),
        ),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "target-mask-inverted",
        "TransformerDecoder inverts a bool tgt_mask",
        edit_module(
            "TransformerDecoder",
            "output = tgt",
            "output = tgt\n    tgt_mask = ~tgt_mask if tgt_mask is not None and tgt_mask.dtype == torch.bool else tgt_mask",
        ),
        replace(DECODER, tgt_mask=HIDING),
    ),
    Fault(
        "native-attention-inverted",
        "the native attention hides zeros of its mask and keeps other numbers",
        native_attention(
            before=put("mask", lambda mask: (mask == 0).to(mask)), when=lambda call: call.mask is not None
        ),
        inferring(replace(ATTENTION, attn_mask=HIDING)),
    ),
    Fault(
        "native-padding-inverted",
        "the native encoder layer inverts a padding mask that comes alone",
        native_layer(before=put("mask", lambda mask: (mask == 0).to(mask)), when=lambda call: call.mask_type == 1),
        inferring(replace(ENCODER_LAYER, src_key_padding_mask=PADDING)),
    ),
)
