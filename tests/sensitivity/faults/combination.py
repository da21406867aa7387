"""Faults in the combination of attention mask and padding mask."""

from dataclasses import replace

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, edit_attention, edit_module
from tests.sensitivity.literals import (
    ATTENTION,
    BIAS,
    CAUSAL,
    CROSS,
    ENCODER,
    ENCODER_LAYER,
    FINITE,
    FLOAT_PADDING,
    HIDING,
    PADDING,
    SCATTERED,
    inferring,
    weighing,
)

_SUM = "attn_mask = attn_mask + key_padding_mask"
_NATIVE_SUM = "merged_mask = attn_mask_expanded + key_padding_mask_expanded"
_BOTH = replace(CROSS, attn_mask=HIDING, key_padding_mask=SCATTERED)
_BOTH_FLOAT = replace(CROSS, attn_mask=FINITE, key_padding_mask=FLOAT_PADDING)
_BOTH_NATIVE = inferring(replace(ATTENTION, attn_mask=HIDING, key_padding_mask=SCATTERED))


def _instead_of_the_sum(id, title, new, shows):
    return Fault(id, title, edit_attention(_SUM, new), shows)


FAULTS = (
    _instead_of_the_sum("padding-lost-beside-mask", "padding counts only if no attention mask is given", "pass", _BOTH),
    _instead_of_the_sum(
        "mask-lost-beside-padding",
        "padding replaces the attention mask",
        "attn_mask = key_padding_mask.expand(-1, tgt_len, -1)",
        _BOTH,
    ),
    _instead_of_the_sum(
        "minimum-of-masks",
        "the smaller number of two masks counts, not their sum",
        "attn_mask = torch.minimum(attn_mask, key_padding_mask)",
        _BOTH_FLOAT,
    ),
    _instead_of_the_sum(
        "hidden-by-both",
        "a key is hidden only if both masks hide it",
        "attn_mask = torch.maximum(attn_mask, key_padding_mask)",
        _BOTH,
    ),
    _instead_of_the_sum(
        "padding-added-twice",
        "a float padding mask is added twice beside a mask",
        "attn_mask = attn_mask + 2 * key_padding_mask",
        _BOTH_FLOAT,
    ),
    _instead_of_the_sum(
        "padding-subtracted",
        "finite float padding is subtracted beside a mask",
        "attn_mask = attn_mask + torch.where(key_padding_mask.isfinite(), -key_padding_mask, key_padding_mask)",
        _BOTH_FLOAT,
    ),
    Fault(
        "padding-lost-alone",
        "padding counts only beside a mask",
        edit_attention("attn_mask = key_padding_mask\n", "attn_mask = None\n"),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "padding-lost-with-weights",
        "padding is ignored if weights are requested",
        edit_attention(
            "if key_padding_mask is not None:\n        if not torch.jit",
            "if key_padding_mask is not None and not need_weights:\n        if not torch.jit",
        ),
        weighing(replace(CROSS, key_padding_mask=PADDING)),
    ),
    Fault(
        "padded-queries-masked",
        "padding hides the padded queries' rows too",
        edit_attention(
            _SUM,
            "attn_mask = attn_mask + key_padding_mask + (key_padding_mask.mT if tgt_len == src_len else 0)",
        ),
        replace(ATTENTION, attn_mask=CAUSAL, key_padding_mask=Mask("bool", "one")),
    ),
    Fault(
        "native-padding-lost-beside-mask",
        "the native paths forget padding beside a mask",
        edit_module("MultiheadAttention", _NATIVE_SUM, "merged_mask = attn_mask_expanded", method="merge_masks"),
        _BOTH_NATIVE,
    ),
    Fault(
        "native-mask-lost-beside-padding",
        "the native paths forget the mask beside padding",
        edit_module(
            "MultiheadAttention",
            _NATIVE_SUM,
            "merged_mask = key_padding_mask_expanded.expand(-1, -1, seq_len, -1)",
            method="merge_masks",
        ),
        _BOTH_NATIVE,
    ),
    Fault(
        "native-hidden-by-both",
        "on the native paths, a key is hidden only if both masks hide it",
        edit_module(
            "MultiheadAttention",
            _NATIVE_SUM,
            "merged_mask = torch.maximum(attn_mask_expanded, key_padding_mask_expanded)",
            method="merge_masks",
        ),
        _BOTH_NATIVE,
    ),
    Fault(
        "causal-lost-beside-padding",
        "a causal hint beside padding drops the causal mask",
        edit_attention(
            "            is_causal = False\n",
            "            attn_mask = None if is_causal else attn_mask\n            is_causal = False\n",
        ),
        replace(ATTENTION, attn_mask=CAUSAL, is_causal=True, key_padding_mask=SCATTERED),
    ),
    Fault(
        "encoder-padding-lost-beside-mask",
        "TransformerEncoder passes on either padding or a mask",
        edit_module(
            "TransformerEncoder",
            "src_key_padding_mask_for_layers = src_key_padding_mask\n",
            "src_key_padding_mask_for_layers = src_key_padding_mask if mask is None else None\n",
        ),
        replace(ENCODER, src_mask=HIDING, src_key_padding_mask=SCATTERED),
    ),
    Fault(
        "float-mask-lost-beside-bool-padding",
        "only -inf counts in a float mask beside bool padding",
        edit_module(
            "TransformerEncoderLayer",
            "src_mask = F._canonical_mask(",
            "if src_mask is not None and src_mask.is_floating_point() and src_key_padding_mask is not None:\n"
            "        src_mask = torch.where(src_mask == float('-inf'), src_mask, 0)\n"
            "    src_mask = F._canonical_mask(",
        ),
        replace(ENCODER_LAYER, src_mask=BIAS, src_key_padding_mask=PADDING),
    ),
)
