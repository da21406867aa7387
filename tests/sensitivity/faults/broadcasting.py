"""Faults of broadcasting: a mask reaches the wrong heads, samples, queries or keys."""

from dataclasses import replace

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    at,
    bool_mask,
    drop_mask,
    edit_attention,
    edit_module,
    has_mask,
    masked,
    native_attention,
    native_layer,
    put,
    sdpa,
)
from tests.sensitivity.literals import (
    ATTENTION,
    CROSS,
    ENCODER_LAYER,
    HIDING,
    PADDING,
    PER_HEAD,
    SCATTERED,
    SDPA,
    inferring,
    weighing,
)

_EXPANDED = ".expand(-1, num_heads, -1, -1)\n            .reshape(bsz * num_heads, 1, src_len)"
_FOR_SDPA = "attn_mask = attn_mask.view(bsz, num_heads, -1, src_len)"
_NATIVE_3D = "attn_mask.view(batch_size, -1, seq_len, seq_len)"
_ONE_SAMPLE = replace(SDPA, attn_mask=HIDING, mask_batch=(2, 1))
_ONE_HEAD = replace(SDPA, attn_mask=HIDING, mask_batch=(2,))


def _has_many_heads(call):
    return masked(call) and call.attn_mask.ndim > 3 and call.attn_mask.shape[-3] > 16


def _repeat_after_sixteen(mask):
    return mask[..., [head % 16 for head in range(mask.shape[-3])], :, :]


def _is_square(call):
    return has_mask(call) and call.mask.dim() == 4


FAULTS = (
    Fault(
        "padding-heads-first",
        "padding is repeated as if heads came before samples",
        edit_attention(_EXPANDED, ".repeat(num_heads, 1, 1, 1)\n            .reshape(bsz * num_heads, 1, src_len)"),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "padding-of-the-first-sample",
        "the padding of the first sample is used for all samples",
        edit_attention(
            _EXPANDED, "[:1].expand(bsz, num_heads, -1, -1)\n            .reshape(bsz * num_heads, 1, src_len)"
        ),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "padding-of-the-last-sample-flipped",
        "the padding of the last sample is read from its end",
        edit_attention(
            "key_padding_mask.view(bsz, 1, 1, src_len)",
            "torch.cat([key_padding_mask[:-1], key_padding_mask[-1:].flip(-1)]).view(bsz, 1, 1, src_len)",
        ),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "mask-heads-first",
        "a 3-D mask is read as if heads came before samples",
        edit_attention(_FOR_SDPA, "attn_mask = attn_mask.view(num_heads, bsz, -1, src_len).transpose(0, 1)"),
        replace(CROSS, attn_mask=PER_HEAD),
    ),
    Fault(
        "mask-of-the-first-head",
        "if weights are requested, the mask of the first head and sample is used for all",
        edit_attention("attn_mask, q_scaled, k.transpose(-2, -1)", "attn_mask[:1], q_scaled, k.transpose(-2, -1)"),
        weighing(replace(CROSS, attn_mask=PER_HEAD)),
    ),
    Fault(
        "last-head-unmasked",
        "a 3-D mask does not reach the last head",
        edit_attention(
            _FOR_SDPA,
            _FOR_SDPA + ".clone()\n                attn_mask[:, -1] = 0 if num_heads > 1 else attn_mask[:, -1]",
        ),
        replace(CROSS, attn_mask=PER_HEAD),
    ),
    Fault(
        "mask-transposed",
        "a square mask is transposed if weights are requested",
        edit_attention(
            "attn_mask, q_scaled, k.transpose(-2, -1)",
            "attn_mask.mT if attn_mask.shape[-2:] == (tgt_len,) * 2 else attn_mask, q_scaled, k.transpose(-2, -1)",
        ),
        weighing(replace(ATTENTION, attn_mask=HIDING)),
    ),
    Fault(
        "native-mask-transposed",
        "the native paths transpose a 2-D mask",
        edit_module(
            "MultiheadAttention",
            "attn_mask.view(1, 1, seq_len, seq_len)",
            "attn_mask.mT.reshape(1, 1, seq_len, seq_len)",
            "merge_masks",
        ),
        inferring(replace(ATTENTION, attn_mask=HIDING)),
    ),
    Fault(
        "native-mask-heads-first",
        "the native paths read a 3-D mask as if heads came before samples",
        edit_module(
            "MultiheadAttention",
            _NATIVE_3D,
            "attn_mask.view(-1, batch_size, seq_len, seq_len).transpose(0, 1)",
            "merge_masks",
        ),
        inferring(replace(ATTENTION, attn_mask=PER_HEAD)),
    ),
    Fault(
        "native-padding-of-the-next-sample",
        "the native paths give each sample its neighbour's padding beside a mask",
        edit_module("MultiheadAttention", "key_padding_mask.view(", "key_padding_mask.roll(1, 0).view(", "merge_masks"),
        inferring(replace(ATTENTION, attn_mask=HIDING, key_padding_mask=PADDING)),
    ),
    Fault(
        "native-layer-mask-of-the-first-head",
        "the native encoder layer takes the first head's mask for all",
        native_layer(before=put("mask", lambda mask: mask[:, :1].expand_as(mask)), when=_is_square),
        inferring(replace(ENCODER_LAYER, src_mask=PER_HEAD)),
    ),
    Fault(
        "native-attention-last-sample-unmasked",
        "the native attention ignores the mask of the last sample",
        native_attention(before=put("mask", at(-1)), when=has_mask),
        inferring(replace(ATTENTION, key_padding_mask=SCATTERED)),
    ),
    Fault(
        "sdpa-mask-of-another-sample",
        "SDPA gives each sample the mask of its neighbour",
        sdpa(
            before=put("attn_mask", lambda mask: mask.roll(1, 0)),
            when=lambda call: masked(call) and call.attn_mask.dim() == 4,
        ),
        _ONE_SAMPLE,
    ),
    Fault(
        "sdpa-mask-of-the-first-sample",
        "SDPA broadcasts the mask of the first sample if the mask has one head",
        sdpa(
            before=put("attn_mask", lambda mask: mask[:1]),
            when=lambda call: masked(call) and call.attn_mask.dim() == 4 and call.attn_mask.shape[1] == 1,
        ),
        _ONE_SAMPLE,
    ),
    Fault(
        "sdpa-mask-of-another-head",
        "SDPA gives each head the 3-D mask of its neighbour",
        sdpa(
            before=put("attn_mask", lambda mask: mask.roll(1, 0)),
            when=lambda call: masked(call) and call.attn_mask.dim() == 3 and call.query.dim() == 4,
        ),
        _ONE_HEAD,
    ),
    Fault(
        "sdpa-row-broadcast-lost",
        "SDPA applies a mask (1, S) to the first query alone",
        sdpa(
            before=lambda call: setattr(
                call,
                "attn_mask",
                at((..., slice(1, None), slice(None)))(
                    call.attn_mask.expand(*call.attn_mask.shape[:-2], call.query.shape[-2], -1)
                ),
            ),
            when=lambda call: masked(call) and call.attn_mask.dim() > 1 and call.attn_mask.shape[-2] == 1,
        ),
        replace(SDPA, attn_mask=HIDING, broadcast="L"),
    ),
    Fault(
        "sdpa-column-broadcast-lost",
        "SDPA applies a mask (L, 1) to the first key alone",
        sdpa(
            before=lambda call: setattr(
                call,
                "attn_mask",
                at((..., slice(1, None)))(call.attn_mask.expand(*call.attn_mask.shape[:-1], call.key.shape[-2])),
            ),
            when=lambda call: masked(call) and call.attn_mask.dim() > 1 and call.attn_mask.shape[-1] == 1,
        ),
        replace(SDPA, attn_mask=Mask("float", "random", "finite"), broadcast="S"),
    ),
    Fault(
        "sdpa-five-dimensions-unmasked",
        "SDPA ignores the mask of inputs with five dimensions",
        sdpa(before=drop_mask, when=lambda call: masked(call) and call.query.dim() == 5),
        replace(SDPA, batch=(2, 1, 2), attn_mask=HIDING),
    ),
    Fault(
        "sdpa-groups-interleaved",
        "with grouped keys, SDPA takes every n-th head for a group",
        sdpa(
            before=lambda call: [
                setattr(call, name, getattr(call, name).repeat(1, call.query.shape[1] // call.key.shape[1], 1, 1))
                for name in ("value", "key")
            ],
            when=lambda call: bool(call.enable_gqa),
        ),
        replace(SDPA, batch=(1, 4), kv_heads=2, attn_mask=HIDING),
    ),
    Fault(
        "sdpa-groups-unmasked",
        "with grouped keys, SDPA ignores a bool mask",
        sdpa(before=drop_mask, when=lambda call: bool(call.enable_gqa) and bool_mask(call)),
        replace(SDPA, batch=(1, 4), kv_heads=2, attn_mask=HIDING),
    ),
    Fault(
        "sdpa-heads-past-sixteen",
        "SDPA gives the heads past the sixteenth the masks of the first ones",
        sdpa(before=put("attn_mask", _repeat_after_sixteen), when=_has_many_heads),
        replace(SDPA, batch=(1, 17), attn_mask=HIDING, mask_batch=(1, 17)),
    ),
)
