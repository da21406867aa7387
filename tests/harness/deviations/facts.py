"""Facts about a case that the triggers of several entries read: sizes, merged masks, fully masked queries."""

import numpy as np

from reference import masks as meaning

from ..cases.case import LEARNED, Case, ScaledDotProduct, merged_dtype, source_of
from ..cases.dtypes import held, rounded
from ..contents.arrays import directions, mask_arrays, merged_bias
from ..execution.release import Release
from ..expectation.backward import PLAIN, BackwardPass
from ..modes.modes import BY_ID, computed_in
from ..releases import since
from .call import Call
from .paths import detects_causality


def announces(call: Call) -> bool:
    """True if the release warns of a bool and a float mask in one attention, and the mode lets the warning through."""
    return since(call.release, "2.0") and BY_ID[call.case.mode].is_watched


def fills_padding(release: Release) -> bool:
    """True if a bool padding mask is filled into a float mask, not added to it (see BackwardPass)."""
    return not since(release, "2.0")


def causal_sources(case: Case, release: Release) -> tuple[str, ...]:
    """The sources of the blocks for which scaled_dot_product_attention gets is_causal=True and no mask."""
    if not case.has_parameters:
        return case.blocks if case.is_causal else ()
    return tuple({source_of(block): None for block in case.blocks if drops_the_mask(case, release, block)})


def causal_flash_blocks(call: Call) -> tuple[str, ...]:
    """The blocks on the CPU's fused kernel that get is_causal=True and no mask."""
    sources = causal_sources(call.case, call.release)
    return tuple(block for block in call.flash_blocks() if source_of(block) in sources)


def backward_pass(case: Case, release: Release) -> BackwardPass:
    """The facts that decide which gradients of the call are NaN."""
    if not directions(case):
        return PLAIN
    if release.adopted and release.adopted.ledger:
        return release.adopted.ledger.BACKWARD_PASS
    calls_nothing = not case.has_parameters and is_served_by_no_kernel(case, release)
    return BackwardPass(fills_padding(release), causal_sources(case, release), calls_nothing)


def is_cast(case: Case) -> bool:
    """True if the mode casts the operands of products, masks included, to a lower precision."""
    return computed_in(case) != case.dtype


def bias_of(case: Case, block: str) -> np.ndarray | None:
    """The merged mask of a block as floats to add to its scores, broadcastable to them; None without masks."""
    bias = _bias_of(case, block)
    return rounded(bias, computed_in(case)) if bias is not None and is_cast(case) else bias


def _bias_of(case, block):
    if isinstance(case, ScaledDotProduct):
        if case.is_causal:
            return meaning.as_bias(meaning.causal(case.L, case.S), held(case.dtype))
        mask = mask_arrays(case).get("attn_mask")
        return None if mask is None else meaning.as_bias(mask, held(case.dtype), true_hides=False)
    return merged_bias(case, *case.mask_names(block))


def mask_dtype(case: Case, block: str) -> str | None:
    """The torch dtype of the merged mask of a block; None without masks.

    A bool mask counts as one of the inputs' dtype.
    """
    dtype = merged_dtype(case, *case.mask_names(block))
    return computed_in(case) if is_cast(case) and dtype not in (None, "float64") else dtype


def is_empty(case: Case, block: str) -> bool:
    """True if the block has no sample, no query or no key."""
    return case.N * case.number_of_queries(block) * case.number_of_keys(block) == 0


def is_served_by_no_kernel(case: Case, release: Release) -> bool:
    """True if a size is 0, so that scaled_dot_product_attention calls no kernel, as since 2.12."""
    if not since(release, "2.12"):
        return False
    of_query = () if since(release, "2.13") else (case.D,)
    return 0 in (*case.batch, case.L, case.S, case.Dv, *of_query)


def has_empty_row(case: Case, block: str) -> bool:
    """True if the block has a fully masked query."""
    if case.appended_keys:
        return False
    bias = bias_of(case, block)
    return bias is not None and bool(meaning.hidden(bias).all(axis=-1).any())


def does_more_than_hide(case: Case, block: str) -> bool:
    """True if the merged mask of the block holds anything but 0 and -inf, so that no bool mask can express it."""
    bias = bias_of(case, block)
    return bias is not None and bool((~meaning.hidden(bias) & (bias != 0)).any())


def absorbs_everything(case: Case, block: str, least: float) -> bool:
    """True if all visible keys of some query are masked by numbers above `least` in absolute value.

    Scores are lost beside such numbers, since they are small.
    """
    if case.appended_keys:
        return False
    bias = bias_of(case, block)
    if bias is None:
        return False
    top = bias.max(axis=-1, initial=-np.inf).astype("float64")
    return bool((np.isfinite(top) & (np.abs(top) > least)).any())


def needs_mask_gradient(case: Case, block: str) -> bool:
    """True if a float mask of the block requires a gradient."""
    return case.autograd in ("grad", "mask", LEARNED) and gives_float(case, block)


def drops_the_mask(case: Case, release: Release, block: str) -> bool:
    """True if scaled_dot_product_attention gets is_causal=True in place of the mask of this block.

    This happens to a causal mask without padding if a hint says that the mask is causal, or if a stack detects it.
    """
    if not case.hints:
        return False
    attn_mask, key_padding_mask = case.mask_names(block)
    mask = mask_arrays(case).get(attn_mask)
    if mask is None or getattr(case, key_padding_mask) is not None or not release.has_causal_hints:
        return False
    hint = getattr(case, case.hint(block))
    return bool(hint) or (hint is None and detects_causality(case, release, block) and _seems_causal(case, mask))


def _seems_causal(case, mask):
    """True if a stack takes the mask for causal. In a trace, the example mask decides."""
    if BY_ID[case.mode].family == "traced":
        is_square = mask.ndim == 2 and mask.shape[0] == mask.shape[1]
        return is_square and (case.mode == "traced_causal" or mask.size == 1)
    return is_exactly_causal(mask)


def is_exactly_causal(mask: np.ndarray) -> bool:
    """True if a mask (L, S) hides all keys after each query's position, and changes nothing else."""
    L, S = mask.shape[-2:]
    return (
        mask.ndim == 2
        and L == S
        and np.array_equal(meaning.as_bias(mask, "float64"), meaning.as_bias(meaning.causal(L, S), "float64"))
    )


def gives_float(case: Case, block: str) -> bool:
    """True if a mask of the block is float."""
    return any(getattr(case, name) is not None and getattr(case, name).is_float for name in case.mask_names(block))
