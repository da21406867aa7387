"""What a case's masks amount to, as the ledger's triggers ask it."""

import numpy as np

from reference import masks as meaning

from .arrays import mask_arrays, merged_bias
from .cases import ScaledDotProduct, Transformer, attentions
from .dispatch import blocks, since


def merged(case, block):
    """The merged bias of a block, broadcastable to its scores; None without masks."""
    if isinstance(case, ScaledDotProduct):
        if case.is_causal:
            return meaning.as_bias(meaning.causal(case.L, case.S), case.dtype)
        mask = mask_arrays(case).get("attn_mask")
        return None if mask is None else meaning.as_bias(mask, case.dtype, true_hides=False)
    return merged_bias(case, *mask_names(case, block))


def mask_names(case, block):
    """The names of the attention mask and the padding mask of a block."""
    number = blocks(case).index(block)
    return attentions(case)[number][:2]


def has_empty_row(case, block):
    """Whether a query of the block sees no key at all."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = merged(case, block)
    return bias is not None and bool(meaning.hidden(bias).all(axis=-1).any())


def has_nonzero_finite(case, block):
    """Whether the block's merged mask holds a finite number that is not 0."""
    bias = merged(case, block)
    return bias is not None and bool((np.isfinite(bias) & (bias != 0)).any())


def absorbs_everything(case, block):
    """Whether all that some query sees is masked by a number beside which a score is nothing, like finfo.min."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = merged(case, block)
    if bias is None:
        return False
    top = bias.max(axis=-1)
    return bool((np.isfinite(top) & (top < -1e30)).any())


def needs_mask_gradient(case, block):
    """Whether autograd asks for the gradient of a float mask of the block."""
    if case.autograd not in ("grad", "mask"):
        return False
    names = ("attn_mask",) if isinstance(case, ScaledDotProduct) else mask_names(case, block)
    return any(getattr(case, name) is not None and getattr(case, name).is_float for name in names)


def uses_flash(case, release, block):
    """Whether the CPU's fused kernel serves this block, which has been chosen for scaled_dot_product_attention."""
    if not since(release, "2.1") or needs_mask_gradient(case, block):
        return False
    if not isinstance(case, ScaledDotProduct):
        return True
    ranks = (2, 4) if case.attn_mask is not None else ()
    return (
        case.D == case.Dv
        and len(case.batch) == 2
        and (case.attn_mask is None or len(case.mask_batch) + 2 in ranks)
        and (case.layout in ("contiguous", "sliced", "expanded") or case.D == 1)
    )


def drops_the_mask(case, release, block):
    """Whether the mask of this block, served by scaled_dot_product_attention, is replaced by its is_causal.

    That is so for a causal mask without padding, of which a hint says so or a stack finds out by itself.
    """
    attn_mask, key_padding_mask = mask_names(case, block)
    mask = mask_arrays(case).get(attn_mask)
    if mask is None or getattr(case, key_padding_mask) is not None or not release.has_causal_hints:
        return False
    if not isinstance(case, Transformer):
        return case.is_causal
    hint = getattr(case, f"{block}_is_causal")
    return bool(hint) or (hint is None and _stack_detects(case, release, block) and _is_exactly_causal(mask))


def _stack_detects(case, release, block):
    if case.module.endswith("Layer"):
        return False
    return block == "src" or (block == "tgt" and release.has_decoder_hints)


def _is_exactly_causal(mask):
    L, S = mask.shape[-2:]
    return mask.ndim == 2 and L == S and np.array_equal(meaning.as_bias(mask, "float64"), meaning.as_bias(meaning.causal(L, S), "float64"))
