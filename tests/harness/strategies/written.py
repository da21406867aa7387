"""Calls of attention that is written by hand (modes/written.py)."""

from dataclasses import replace

from hypothesis import strategies as st

from ..cases.case import UNRECORDED, ScaledDotProduct
from ..cases.masks import Mask
from ..execution.release import Release
from ..modes.mode import Mode
from ..modes.written import FORMS
from .basics import evenly, mixed
from .sdpa import scaled_dot_product_cases


def written_cases(release: Release, mode: Mode) -> st.SearchStrategy:
    """Calls of scaled_dot_product_attention that can be written by hand in the mode; a third in a low precision."""
    dtypes = evenly((*[None] * 6, *release.low_dtypes))
    cases = scaled_dot_product_cases(release).filter(lambda case: case.batch and (case.attn_mask or case.is_causal))
    cases = mixed(*[cases.map(_mostly_rewritten)] * 3, cases)
    cases = st.tuples(cases, dtypes).map(lambda drawn: replace(drawn[0], dtype=drawn[1] or drawn[0].dtype))
    if not FORMS[mode.id].turns_key_at_once:
        return cases
    meeting = cases.map(_with_heads_for_keys)
    if not FORMS[mode.id].multiplies:
        return mixed(cases, meeting, meeting, meeting.map(_without_mask))
    unmasked, meeting = cases.map(_without_mask), meeting.map(_without_mask)
    several = unmasked.map(_of_several_samples)
    return mixed(unmasked, meeting, several, several.map(_with_keys_for_heads), cases)


def _mostly_rewritten(case):
    """The call with four dimensions and a mask that needs no gradient, which inductor rewrites in most forms."""
    autograd = {"grad": "inputs", "mask": "no_grad"}.get(case.autograd, case.autograd)
    case = _with_four_dimensions(replace(case, autograd=autograd))
    is_hidden = case.is_causal or case.attn_mask is None
    mask = Mask("float", "causal") if is_hidden else replace(case.attn_mask, form="float")
    return replace(case, is_causal=False, attn_mask=mask)


def _with_heads_for_keys(case):
    """The call with one sample and as many heads as keys, so that an exchange of both keeps the shape of the key."""
    case = _with_four_dimensions(case)
    heads = max(case.batch[-1], 2)
    sizes = (1, heads)[2 - len(case.mask_batch) :]
    mask_batch = tuple(1 if former == 1 else size for former, size in zip(case.mask_batch, sizes, strict=True))
    return replace(case, batch=(1, heads), mask_batch=mask_batch, S=heads, kv_heads=None)


def _of_several_samples(case):
    """The call without a mask, for two samples or more of several heads, queries and keys, without gradients."""
    case = _with_four_dimensions(case)
    batch = tuple(max(size, 2) for size in case.batch)
    autograd = case.autograd if case.autograd in UNRECORDED else "no_grad"
    return replace(case, batch=batch, L=max(case.L, 2), S=max(case.S, 2), kv_heads=None, autograd=autograd)


def _with_keys_for_heads(case):
    """The call with as many keys as heads, so that an exchange of both keeps the shape of the key."""
    return replace(case, S=case.batch[-1])


def _without_mask(case):
    return replace(case, attn_mask=None, mask_batch=(), broadcast="", is_causal=False)


def _with_four_dimensions(case):
    if len(case.batch) == 2:
        return case
    mask = case.attn_mask and replace(case.attn_mask, over_heads=False, over_samples=False)
    return replace(case, batch=(2, 2), mask_batch=(), attn_mask=mask, kv_heads=None)


def as_written(case: ScaledDotProduct, mode: Mode) -> ScaledDotProduct:
    """The call without arguments that no form takes; with four dimensions if its form permutes them."""
    form = FORMS[mode.id]
    if case.is_causal:
        case = replace(case, is_causal=False, attn_mask=Mask("bool", "causal"))
    case = replace(case, kv_heads=None, dropout=0.0, layout="contiguous", nonfinite="")
    if case.scale == 0:
        case = replace(case, scale=0.5)
    if form.permutes:
        case = _with_four_dimensions(case)
    if "float()" in form.softmax and case.dtype == "float64":
        case = replace(case, dtype="float32")
    return case
