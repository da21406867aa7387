"""Faults in the masks of a decoder's attention to its memory."""

from dataclasses import replace

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, edit_module
from tests.sensitivity.literals import (
    CAUSAL,
    DECODER,
    DECODER_LAYER,
    FINITE,
    HIDING,
    PADDING,
    PER_HEAD,
    SCATTERED,
    TRANSFORMER,
)

_BLOCK = "x = self.multihead_attn("
_MEMORY = replace(DECODER_LAYER, memory_mask=HIDING)
_PADDED = replace(DECODER_LAYER, memory_key_padding_mask=PADDING)
_NORM_FIRST = "            memory_mask,\n            memory_key_padding_mask,\n            memory_is_causal,"


def _in_block(id, title, statement, shows):
    """A fault in the decoder layer's attention to the memory."""
    return Fault(
        id, title, edit_module("TransformerDecoderLayer", _BLOCK, f"{statement}\n    {_BLOCK}", "_mha_block"), shows
    )


FAULTS = (
    _in_block("memory-mask-lost", "memory_mask is ignored", "attn_mask = None", _MEMORY),
    _in_block("memory-padding-lost", "memory_key_padding_mask is ignored", "key_padding_mask = None", _PADDED),
    _in_block(
        "memory-padding-lost-beside-mask",
        "memory_key_padding_mask is ignored beside a memory_mask",
        "key_padding_mask = None if attn_mask is not None else key_padding_mask",
        replace(_MEMORY, memory_key_padding_mask=SCATTERED),
    ),
    _in_block(
        "memory-mask-transposed",
        "a square memory_mask is transposed",
        "attn_mask = attn_mask.mT if attn_mask is not None and attn_mask.shape[-1] == attn_mask.shape[-2] else attn_mask",
        replace(_MEMORY, T=4, memory_mask=CAUSAL),
    ),
    _in_block(
        "memory-mask-unbatched-lost",
        "memory_mask is ignored without a batch",
        "attn_mask = None if x.dim() == 2 else attn_mask",
        replace(_MEMORY, N=1, batched=False),
    ),
    _in_block(
        "memory-mask-of-the-first-head",
        "the first head's slice of a 3-D memory_mask is used for all heads",
        "attn_mask = attn_mask[:1].expand_as(attn_mask) if attn_mask is not None and attn_mask.dim() == 3 else attn_mask",
        replace(_MEMORY, memory_mask=PER_HEAD),
    ),
    _in_block(
        "memory-mask-finite-lost",
        "only -inf counts in a float memory_mask",
        "attn_mask = attn_mask.masked_fill(attn_mask.isfinite(), 0) if attn_mask is not None and attn_mask.is_floating_point() else attn_mask",
        replace(_MEMORY, memory_mask=FINITE),
    ),
    _in_block(
        "memory-padding-of-the-neighbour",
        "each sample gets its neighbour's memory_key_padding_mask",
        "key_padding_mask = key_padding_mask.roll(1, 0) if key_padding_mask is not None else None",
        replace(DECODER_LAYER, memory_key_padding_mask=Mask("bool", "sample")),
    ),
    _in_block(
        "memory-first-key-seen",
        "the first position of the memory is never hidden by padding",
        "key_padding_mask = key_padding_mask.clone() if key_padding_mask is not None else None\n"
        "    if key_padding_mask is not None:\n"
        "        key_padding_mask[..., :1] = 0",
        replace(_PADDED, memory_key_padding_mask=Mask("bool", "left")),
    ),
    Fault(
        "memory-mask-lost-with-norm-first",
        "memory_mask is ignored with norm_first",
        edit_module("TransformerDecoderLayer", _NORM_FIRST, _NORM_FIRST.replace("memory_mask", "None", 1)),
        replace(_MEMORY, norm_first=True),
    ),
    Fault(
        "memory-padding-lost-with-norm-last",
        "memory_key_padding_mask is ignored unless norm_first",
        edit_module(
            "TransformerDecoderLayer",
            "x, memory, memory_mask, memory_key_padding_mask, memory_is_causal",
            "x, memory, memory_mask, None, memory_is_causal",
        ),
        _PADDED,
    ),
    Fault(
        "memory-padding-from-target",
        "the memory gets the padding of the target if the shape fits",
        edit_module(
            "TransformerDecoder",
            "memory_key_padding_mask=memory_key_padding_mask",
            "memory_key_padding_mask=tgt_key_padding_mask if tgt.shape == memory.shape and memory_key_padding_mask is not None "
            "and tgt_key_padding_mask is not None else memory_key_padding_mask",
        ),
        replace(DECODER, T=4, tgt_key_padding_mask=PADDING, memory_key_padding_mask=SCATTERED),
    ),
    Fault(
        "memory-padding-from-source",
        "nn.Transformer hides the source's padding in the memory though no memory_key_padding_mask is given",
        edit_module(
            "Transformer",
            "memory_key_padding_mask=memory_key_padding_mask",
            "memory_key_padding_mask=src_key_padding_mask if memory_key_padding_mask is None else memory_key_padding_mask",
        ),
        replace(TRANSFORMER, src_key_padding_mask=PADDING),
    ),
    Fault(
        "memory-mask-from-source",
        "nn.Transformer ignores memory_mask if a src_mask is given",
        edit_module("Transformer", "memory_mask=memory_mask", "memory_mask=memory_mask if src_mask is None else None"),
        replace(TRANSFORMER, src_mask=HIDING, memory_mask=HIDING),
    ),
    Fault(
        "memory-padding-not-past-the-first-layer",
        "TransformerDecoder passes memory_key_padding_mask to its first layer only",
        edit_module(
            "TransformerDecoder",
            "memory_key_padding_mask=memory_key_padding_mask",
            "memory_key_padding_mask=memory_key_padding_mask if mod is self.layers[0] else None",
        ),
        replace(DECODER, memory_key_padding_mask=PADDING),
    ),
    Fault(
        "memory-mask-not-in-the-last-layer",
        "TransformerDecoder passes memory_mask to all layers but the last",
        edit_module(
            "TransformerDecoder",
            "memory_mask=memory_mask",
            "memory_mask=memory_mask if mod is not self.layers[-1] else None",
        ),
        replace(DECODER, memory_mask=HIDING),
    ),
)
