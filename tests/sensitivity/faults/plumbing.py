"""Faults of plumbing: a module drops a mask or passes it to the wrong part."""

from dataclasses import replace

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, edit_module, wrap
from tests.sensitivity.literals import (
    ATTENTION,
    CAUSAL,
    CROSS,
    DECODER,
    DECODER_LAYER,
    ENCODER,
    ENCODER_LAYER,
    FINITE,
    HIDING,
    PADDING,
    SCATTERED,
    TRANSFORMER,
    inferring,
    weighing,
)

_MASKED = replace(ENCODER, src_mask=HIDING)
_PADDED = replace(ENCODER, src_key_padding_mask=PADDING)
_TARGET = replace(DECODER, tgt_mask=HIDING)
_NORM_FIRST = "self.norm1(x), src_mask, src_key_padding_mask, is_causal"
_NORM_LAST = "self._sa_block(x, src_mask, src_key_padding_mask, is_causal"


def _encoder(id, title, old, new, shows):
    return Fault(id, title, edit_module("TransformerEncoder", old, new), shows)


def _encoder_layer(id, title, old, new, shows):
    return Fault(id, title, edit_module("TransformerEncoderLayer", old, new), shows)


def _decoder(id, title, old, new, shows):
    return Fault(id, title, edit_module("TransformerDecoder", old, new), shows)


def _decoder_layer(id, title, old, new, shows):
    return Fault(id, title, edit_module("TransformerDecoderLayer", old, new), shows)


def _transformer(id, title, old, new, shows):
    return Fault(id, title, edit_module("Transformer", old, new), shows)


FAULTS = (
    _encoder(
        "encoder-mask-in-the-first-layer-only",
        "TransformerEncoder masks its first layer only",
        "src_mask=mask",
        "src_mask=mask if mod is self.layers[0] else None",
        _MASKED,
    ),
    _encoder(
        "encoder-mask-not-in-the-last-layer",
        "TransformerEncoder does not mask its last layer",
        "src_mask=mask",
        "src_mask=mask if mod is not self.layers[-1] else None",
        _MASKED,
    ),
    _encoder(
        "encoder-mask-not-past-the-second-layer",
        "TransformerEncoder masks two layers at most",
        "src_mask=mask",
        "src_mask=mask if mod in list(self.layers)[:2] else None",
        replace(_MASKED, num_layers=3),
    ),
    _encoder(
        "encoder-padding-in-the-first-layer-only",
        "TransformerEncoder passes padding to its first layer only",
        "src_key_padding_mask=src_key_padding_mask_for_layers",
        "src_key_padding_mask=src_key_padding_mask_for_layers if mod is self.layers[0] else None",
        _PADDED,
    ),
    _encoder(
        "encoder-padding-lost-with-norm",
        "TransformerEncoder with a norm ignores the padding",
        "src_key_padding_mask=src_key_padding_mask_for_layers",
        "src_key_padding_mask=src_key_padding_mask_for_layers if self.norm is None else None",
        replace(_PADDED, norm=True),
    ),
    _encoder(
        "encoder-mask-grows",
        "TransformerEncoder adds a float mask once more in each layer",
        "        output = mod(",
        "        mask = mask * (2 if mod is not self.layers[0] and bool(mask.isfinite().all()) else 1) if mask is not None else None\n        output = mod(",
        replace(ENCODER, src_mask=FINITE),
    ),
    _encoder(
        "nested-padded-with-ones",
        "the nested path fills padded positions of the output with 1",
        "to_padded_tensor(0.0",
        "to_padded_tensor(1.0",
        inferring(_PADDED),
    ),
    _encoder(
        "nested-beside-mask",
        "the nested path opens beside a mask, and the layers do not get the mask",
        "elif mask is not None:",
        "elif mask is not None and mask.dim() == 3:",
        inferring(replace(_PADDED, src_mask=HIDING)),
    ),
    _encoder(
        "nested-keeps-padding",
        "the nested path gives the padding to the layers as well",
        "src_key_padding_mask_for_layers = None",
        "pass",
        inferring(_PADDED),
    ),
    _encoder(
        "nested-not-aligned",
        "the nested path takes padding in the middle for padding on the right",
        "elif do_mask_check and not torch",
        "elif do_mask_check and src_key_padding_mask[:, :1].any() and not torch",
        inferring(replace(ENCODER, src_key_padding_mask=Mask("bool", "one"), seed=1)),
    ),
    Fault(
        "nested-loses-the-last-position",
        "the nested path leaves out the last kept position of each sample",
        wrap(
            torch,
            "_nested_tensor_from_mask",
            before=lambda call: setattr(call, "mask", call.mask & call.mask.roll(-1, 1)),
        ),
        inferring(_PADDED),
    ),
    _encoder_layer(
        "encoder-layer-mask-lost-with-norm-first",
        "the encoder layer ignores its mask with norm_first",
        _NORM_FIRST,
        _NORM_FIRST.replace("src_mask", "None"),
        replace(ENCODER_LAYER, src_mask=HIDING, norm_first=True),
    ),
    _encoder_layer(
        "encoder-layer-padding-lost-with-norm-first",
        "the encoder layer ignores its padding with norm_first",
        _NORM_FIRST,
        _NORM_FIRST.replace("src_key_padding_mask", "None"),
        replace(ENCODER_LAYER, src_key_padding_mask=PADDING, norm_first=True),
    ),
    _encoder_layer(
        "encoder-layer-mask-lost-with-norm-last",
        "the encoder layer ignores its mask unless norm_first",
        _NORM_LAST,
        _NORM_LAST.replace("src_mask", "None"),
        replace(ENCODER_LAYER, src_mask=HIDING),
    ),
    _encoder_layer(
        "encoder-layer-padding-lost-in-training",
        "the encoder layer ignores its padding in training",
        _NORM_LAST,
        _NORM_LAST.replace("src_key_padding_mask", "None if self.training else src_key_padding_mask"),
        replace(ENCODER_LAYER, src_key_padding_mask=PADDING, training=True),
    ),
    _decoder(
        "target-mask-in-the-first-layer-only",
        "TransformerDecoder masks its first layer only",
        "tgt_mask=tgt_mask",
        "tgt_mask=tgt_mask if mod is self.layers[0] else None",
        _TARGET,
    ),
    _decoder(
        "target-padding-not-in-the-last-layer",
        "TransformerDecoder does not pass padding to its last layer",
        "tgt_key_padding_mask=tgt_key_padding_mask",
        "tgt_key_padding_mask=tgt_key_padding_mask if mod is not self.layers[-1] else None",
        replace(DECODER, tgt_key_padding_mask=SCATTERED),
    ),
    _decoder(
        "target-mask-for-memory",
        "TransformerDecoder gives the memory the target's mask if the shape fits and no memory_mask is given",
        "memory_mask=memory_mask",
        "memory_mask=tgt_mask if memory_mask is None and tgt.shape == memory.shape else memory_mask",
        replace(_TARGET, T=4),
    ),
    _decoder(
        "target-masks-swapped",
        "TransformerDecoder swaps tgt_mask and memory_mask if both shapes fit",
        "        output = mod(",
        "        if tgt_mask is not None and memory_mask is not None and tgt_mask.shape == memory_mask.shape:\n            tgt_mask, memory_mask = memory_mask, tgt_mask\n        output = mod(",
        replace(_TARGET, T=4, memory_mask=CAUSAL, num_layers=1),
    ),
    _decoder_layer(
        "target-padding-lost-with-norm-first",
        "the decoder layer ignores the target's padding with norm_first",
        "self.norm1(x), tgt_mask, tgt_key_padding_mask",
        "self.norm1(x), tgt_mask, None",
        replace(DECODER_LAYER, norm_first=True, tgt_key_padding_mask=SCATTERED),
    ),
    _decoder_layer(
        "target-mask-lost-with-norm-last",
        "the decoder layer ignores tgt_mask unless norm_first",
        "self._sa_block(x, tgt_mask, tgt_key_padding_mask",
        "self._sa_block(x, None, tgt_key_padding_mask",
        replace(DECODER_LAYER, tgt_mask=HIDING),
    ),
    _decoder_layer(
        "target-mask-lost-in-eval",
        "the decoder layer ignores tgt_mask in eval",
        "x = tgt\n",
        "x = tgt\n    tgt_mask = tgt_mask if self.training else None\n",
        replace(DECODER_LAYER, tgt_mask=HIDING),
    ),
    _transformer(
        "transformer-source-mask-lost",
        "nn.Transformer ignores src_mask",
        "\n        mask=src_mask",
        "\n        mask=None",
        replace(TRANSFORMER, src_mask=HIDING),
    ),
    _transformer(
        "transformer-foreign-encoder-padding-lost",
        "nn.Transformer passes no padding to an encoder of another class than nn.TransformerEncoder",
        "        src_key_padding_mask=src_key_padding_mask,\n",
        "        src_key_padding_mask=src_key_padding_mask if isinstance(self.encoder, TransformerEncoder) else None,\n",
        replace(TRANSFORMER, src_key_padding_mask=PADDING, mode="own_classes"),
    ),
    _transformer(
        "transformer-source-padding-lost",
        "nn.Transformer ignores src_key_padding_mask if memory_key_padding_mask is given",
        "src_key_padding_mask=src_key_padding_mask",
        "src_key_padding_mask=src_key_padding_mask if memory_key_padding_mask is None else None",
        replace(TRANSFORMER, src_key_padding_mask=PADDING, memory_key_padding_mask=PADDING),
    ),
    _transformer(
        "transformer-target-padding-lost",
        "nn.Transformer ignores tgt_key_padding_mask",
        "tgt_key_padding_mask=tgt_key_padding_mask",
        "tgt_key_padding_mask=None",
        replace(TRANSFORMER, tgt_key_padding_mask=SCATTERED),
    ),
    _transformer(
        "transformer-target-mask-lost-without-batch",
        "nn.Transformer ignores tgt_mask without a batch",
        "\n        tgt_mask=tgt_mask",
        "\n        tgt_mask=tgt_mask if is_batched else None",
        replace(TRANSFORMER, N=1, batched=False, tgt_mask=HIDING),
    ),
    _transformer(
        "transformer-source-mask-for-target",
        "nn.Transformer gives the target the source's mask if the shape fits",
        "\n        tgt_mask=tgt_mask",
        "\n        tgt_mask=src_mask if tgt_mask is not None and src_mask is not None and src.shape == tgt.shape else tgt_mask",
        replace(TRANSFORMER, T=4, src_mask=HIDING, tgt_mask=CAUSAL),
    ),
    Fault(
        "attention-padding-lost-with-separate-projections",
        "nn.MultiheadAttention ignores padding if kdim differs from embed_dim",
        edit_module(
            "MultiheadAttention",
            "key_padding_mask=key_padding_mask,\n            need_weights=need_weights,\n            attn_mask=attn_mask,\n            use_separate_proj_weight",
            "key_padding_mask=None,\n            need_weights=need_weights,\n            attn_mask=attn_mask,\n            use_separate_proj_weight",
        ),
        replace(CROSS, attention="distinct", kdim=5, vdim=6, key_padding_mask=PADDING),
    ),
    Fault(
        "attention-mask-lost-with-separate-projections",
        "nn.MultiheadAttention ignores the mask if kdim differs from embed_dim and weights are averaged",
        edit_module(
            "MultiheadAttention",
            "attn_mask=attn_mask,\n            use_separate_proj_weight",
            "attn_mask=None if average_attn_weights and need_weights else attn_mask,\n            use_separate_proj_weight",
        ),
        weighing(replace(CROSS, attention="distinct", kdim=5, vdim=6, attn_mask=HIDING)),
    ),
    Fault(
        "attention-mask-lost-in-cross-attention",
        "nn.MultiheadAttention ignores its mask if query is not key",
        edit_module(
            "MultiheadAttention",
            "is_batched = query.dim() == 3",
            "is_batched = query.dim() == 3\n    attn_mask = attn_mask if query is key else None",
        ),
        replace(CROSS, attn_mask=HIDING),
    ),
    Fault(
        "attention-padding-of-the-sequence-first-batch",
        "nn.MultiheadAttention takes the padding back to front with batch_first=False",
        edit_module(
            "MultiheadAttention",
            "is_batched = query.dim() == 3",
            "is_batched = query.dim() == 3\n    if key_padding_mask is not None and is_batched and not self.batch_first:\n        key_padding_mask = key_padding_mask.flip(0)",
        ),
        replace(ATTENTION, batch_first=False, key_padding_mask=PADDING),
    ),
)
