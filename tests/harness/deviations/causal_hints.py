"""Causal masks that is_causal replaces: hints, detected causality, traces, torch.nn.attention.bias."""

from dataclasses import replace

from reference import masks as meaning
from reference.attention import attend

from ..cases.case import MultiHead, ScaledDotProduct, Transformer
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning, with_kernel, with_masks, without_gradient
from ..modes.modes import BY_ID
from .entry import Deviation
from .facts import drops_the_mask, is_exactly_causal, mask_names, needs_mask_gradient
from .remedies import (
    _OTHER_NUMBERS,
    _SLOWER,
    FIRST_KEY,
    HAS_HINTS,
    Remedy,
    _beside_zeros,
    _without_hints,
    changed,
    upgrade,
    without,
)


def causal_over_all_keys(query, key, value, bias, scale):
    """The mask is forgotten: a query sees the keys up to its own position, whatever was appended to them."""
    return attend(query, key, value, meaning.as_bias(meaning.causal(query.shape[-2], key.shape[-2]), "float64"), scale)


def is_biased_past_its_keys(call):
    """True if a causal bias that is aligned at the last key is made for more queries than keys."""
    case = call.case
    return case.mode == "causal_lower_right" and case.L > case.S


def dropped_masks(call):
    """The names of the float masks that get no gradient since is_causal takes their place."""
    if isinstance(call.case, ScaledDotProduct):
        return ()
    blocks = [block for block in call.blocks("sdpa") if needs_mask_gradient(call.case, block)]
    dropped = [block for block in blocks if drops_the_mask(call.case, call.release, block)]
    return tuple(mask_names(call.case, block)[0] for block in dropped)


def masks_taken_for_causal(call):
    """{name: the causal mask in its place} of those that is_causal replaces, since a trace was made with others."""
    if BY_ID[call.case.mode].family != "traced" or not isinstance(call.case, Transformer):
        return {}
    dropped = [block for block in call.blocks("sdpa") if drops_the_mask(call.case, call.release, block)]
    masks = {name: mask_arrays(call.case)[name] for name in (mask_names(call.case, block)[0] for block in dropped)}
    return {
        name: meaning.causal(*mask.shape)
        for name, mask in masks.items()
        if mask.ndim == 2 and not is_exactly_causal(mask)
    }


def take_for_causal(computation, call):
    """is_causal takes the place of the masks."""
    return with_masks(computation, masks_taken_for_causal(call))


def gives_mask_and_hint(call):
    """True if a multi-head attention off the native path is given a mask and a hint about it."""
    case = call.case
    return isinstance(case, MultiHead) and case.is_causal and not call.blocks("native_mha")


def hides_appended_keys(call):
    """True if a causal hint takes the place of a mask, and there are keys that no mask hides."""
    appends = getattr(call.case, "add_bias_kv", False) or getattr(call.case, "add_zero_attn", False)
    return appends and any(drops_the_mask(call.case, call.release, block) for block in call.blocks("sdpa"))


ENTRIES = (
    Deviation(
        id="causal-mask-gradient",
        title="A causal float mask gets no gradient",
        affects=">=2.0.1",
        upstream="not found",
        clause=6,
        trigger="a float mask that requires a gradient is causal, and a hint says so or a stack detects it",
        instead="the mask is replaced by is_causal=True, so that its gradient is None",
        applies=lambda call: bool(dropped_masks(call)),
        change=lambda computation, call: without_gradient(computation, dropped_masks(call)),
        pinned=Transformer(
            module="TransformerEncoder", autograd="grad", S=2, head_dim=4, src_mask=Mask("float", "causal")
        ),
        devices=ON_BOTH,
        remedies=(
            Remedy("Say is_causal=False: src_is_causal, tgt_is_causal.", _without_hints, only=(HAS_HINTS,)),
            Remedy(
                "Give a float padding mask of zeros, too.",
                _beside_zeros,
                cost=_SLOWER,
            ),
        ),
    ),
    Deviation(
        id="traced-causal-mask",
        title="A stack that was traced with a causal mask takes every mask for causal",
        affects=">=2.0.1",
        upstream="not found",
        clause=3,
        trigger="torch.jit.trace of nn.TransformerEncoder, or from 2.1 on one with a decoder, with a causal mask and no"
        " hint, that is then given another mask of that shape, without padding, off the native path",
        instead="the mask is ignored, and a causal one takes its place",
        applies=lambda call: bool(masks_taken_for_causal(call)),
        change=take_for_causal,
        pinned=Transformer(
            mode="traced_causal",
            module="TransformerEncoder",
            training=True,
            S=2,
            head_dim=2,
            src_mask=Mask("bool", "none"),
        ),
        remedies=(
            Remedy("Give a hint that is False, such as src_is_causal=False.", _without_hints, only=(HAS_HINTS,)),
            without("torch.jit.trace", cost="no trace"),
        ),
    ),
    Deviation(
        id="causal-hint-hides-appended-keys",
        title="is_causal=True hides the keys that add_bias_kv and add_zero_attn append",
        affects=">=2.0.1",
        upstream="not found",
        clause=7,
        trigger="nn.MultiheadAttention with is_causal=True, need_weights=False, no padding mask, and appended keys",
        instead="the causal mask is taken over all keys, so that the appended ones are hidden from early queries",
        applies=hides_appended_keys,
        change=lambda computation, call: with_kernel(computation, lambda _: causal_over_all_keys, ("self",)),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True, need_weights=False, add_zero_attn=True),
        devices=ON_BOTH,
        remedies=(Remedy("Leave out the hint.", changed(is_causal=False)),),
    ),
    Deviation(
        id="hint-excludes-mask",
        title="nn.MultiheadAttention refuses a mask beside is_causal=True",
        affects="==2.0.0",
        upstream="not found",
        clause=6,
        trigger="is_causal=True beside an attn_mask, which is_causal is a hint about, off the native path",
        instead="AssertionError: only one of the two is allowed",
        applies=gives_mask_and_hint,
        change=lambda computation, call: raising(computation, "AssertionError", "Only allow causal mask or attn_mask"),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True),
        stage="attention",
        remedies=(Remedy("Leave out the hint.", changed(is_causal=False)), upgrade("2.0.1")),
    ),
    Deviation(
        id="lower-right-bias-warning",
        title="causal_lower_right warns of NaN for queries that see no key, which since 2.5 are zero",
        affects=">=2.3",
        upstream="not found",
        clause=10,
        trigger="causal_lower_right(L, S) with more queries than keys",
        instead="UserWarning: Lower right causal bias will produce NaNs; before 2.5 it does, since then it does not",
        applies=is_biased_past_its_keys,
        change=lambda computation, call: warning(computation, "Lower right causal bias will produce NaNs"),
        pinned=ScaledDotProduct(mode="causal_lower_right", L=2, attn_mask=Mask("bool", "lower_right")),
        devices=ON_BOTH,
        remedies=(
            Remedy("Ignore the warning by warnings.filterwarnings.", changed(mode="silenced_lower_right"), ">=2.5"),
            Remedy("Give the mask itself as attn_mask.", changed(mode="eager"), ">=2.5", cost="memory for the mask"),
            Remedy(
                "Give the mask itself as attn_mask, and let every query see the first key.",
                lambda case: replace(FIRST_KEY.change(case), mode="eager"),
                "<2.5",
                cost=f"memory for the mask; {_OTHER_NUMBERS}",
            ),
        ),
    ),
)
