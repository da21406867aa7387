"""Facts about a case that the conditions of several entries ask for: sizes, merged masks, who sees nothing."""

import numpy as np

from reference import masks as meaning

from ..cases.case import MultiHead, ScaledDotProduct, Transformer, merged_dtype
from ..cases.dtypes import held, rounded
from ..contents.arrays import mask_arrays, merged_bias
from ..modes.modes import BY_ID, computed_in
from ..releases import since
from .paths import detects_causality, source_of


def fills_padding(release):
    """True if a bool padding mask is filled into a float mask, rather than added to it (see backward.traced)."""
    return not since(release, "2.0")


def is_cast(case):
    """True if what is multiplied is cast to a lower precision first, the masks included."""
    return computed_in(case) != case.dtype


def bias_of(case, block):
    """The merged bias of a block as it is added, broadcastable to its scores; None without masks."""
    bias = _bias_of(case, block)
    return rounded(bias, computed_in(case)) if bias is not None and is_cast(case) else bias


def _bias_of(case, block):
    if isinstance(case, ScaledDotProduct):
        if case.is_causal:
            return meaning.as_bias(meaning.causal(case.L, case.S), held(case.dtype))
        mask = mask_arrays(case).get("attn_mask")
        return None if mask is None else meaning.as_bias(mask, held(case.dtype), true_hides=False)
    return merged_bias(case, *mask_names(case, block))


def mask_dtype(case, block):
    """The dtype in torch of a block's merged mask, to which a bool one gives that of the inputs; None without masks."""
    dtype = merged_dtype(case, *mask_names(case, block))
    return computed_in(case) if is_cast(case) and dtype not in (None, "float64") else dtype


def number_of_samples(case):
    """How many samples the call has."""
    return case.N if case.only is None else 1


def number_of_keys(case, block):
    """How many keys the block has, without appended ones."""
    return case.T if source_of(block) == "tgt" else case.S


def number_of_queries(case, block):
    """How many queries the block has."""
    if isinstance(case, MultiHead):
        return case.L
    return case.S if source_of(block) == "src" else case.T


def is_empty(case, block):
    """True if a block has nothing to do."""
    return case.N * number_of_queries(case, block) * number_of_keys(case, block) == 0


def mask_names(case, block):
    """The names of the attention mask and the padding mask of a block."""
    if isinstance(case, ScaledDotProduct):
        return ("attn_mask",)
    if isinstance(case, MultiHead):
        return "attn_mask", "key_padding_mask"
    return f"{source_of(block)}_mask", f"{source_of(block)}_key_padding_mask"


def has_empty_row(case, block):
    """True if a query of the block sees no key at all."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = bias_of(case, block)
    return bias is not None and bool(meaning.hidden(bias).all(axis=-1).any())


def has_nonzero_finite(case, block):
    """True if the block's merged mask holds a finite number that is not 0."""
    bias = bias_of(case, block)
    return bias is not None and bool((np.isfinite(bias) & (bias != 0)).any())


def absorbs_everything(case, block, least):
    """True if all that some query sees is masked by numbers of at least this size, beside which scores are little."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = bias_of(case, block)
    if bias is None:
        return False
    top = bias.max(axis=-1, initial=-np.inf).astype("float64")
    return bool((np.isfinite(top) & (np.abs(top) > least)).any())


def needs_mask_gradient(case, block):
    """True if autograd asks for the gradient of a float mask of the block."""
    return case.autograd in ("grad", "mask") and gives_float(case, block)


def drops_the_mask(case, release, block):
    """True if the mask of this block, served by scaled_dot_product_attention, is replaced by its is_causal.

    That is so for a causal mask without padding, of which a hint says so or a stack finds out by itself.
    """
    if isinstance(case, ScaledDotProduct):
        return False
    attn_mask, key_padding_mask = mask_names(case, block)
    mask = mask_arrays(case).get(attn_mask)
    if mask is None or getattr(case, key_padding_mask) is not None or not release.has_causal_hints:
        return False
    if not isinstance(case, Transformer):
        return case.is_causal
    hint = getattr(case, f"{source_of(block)}_is_causal")
    return bool(hint) or (hint is None and detects_causality(case, release, block) and _seems_causal(case, mask))


def _seems_causal(case, mask):
    """True if a stack takes the mask for causal; of a trace, whether it took the one that it is traced with."""
    if BY_ID[case.mode].family == "traced":
        is_square = mask.ndim == 2 and mask.shape[0] == mask.shape[1]
        return is_square and (case.mode == "traced_causal" or mask.size == 1)
    return is_exactly_causal(mask)


def is_exactly_causal(mask):
    """True if a mask (L, S) hides all that comes later, and changes nothing else."""
    L, S = mask.shape[-2:]
    return (
        mask.ndim == 2
        and L == S
        and np.array_equal(meaning.as_bias(mask, "float64"), meaning.as_bias(meaning.causal(L, S), "float64"))
    )


def gives_float(case, block):
    """True if a mask of the block is float."""
    return any(getattr(case, name) is not None and getattr(case, name).is_float for name in mask_names(case, block))


def number_of_appended_keys(case):
    """How many keys are appended."""
    return getattr(case, "add_bias_kv", False) + getattr(case, "add_zero_attn", False)
