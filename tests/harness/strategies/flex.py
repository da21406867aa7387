"""Calls of torch.nn.attention.flex_attention."""

from dataclasses import replace
from itertools import product

from hypothesis import strategies as st

from ..cases.case import ADJUSTMENTS, LISTS, SLICES, UNRECORDED, FlexAttention
from ..cases.masks import ATTENTION_PATTERNS, VALUES, Mask
from ..contents.arrays import nonfinite_positions
from ..execution.release import Release
from ..releases import since
from .basics import MEMORY_LAYOUTS, common, evenly, lengths, one_of


@st.composite
def flex_attention_cases(draw: st.DrawFn, release: Release, inference: bool = False) -> FlexAttention:
    """Calls of flex_attention with all kinds of BlockMask and score_mod. inference: without gradients of the inputs."""
    learning = () if inference else ("grad", "inputs", "one_input")
    weight = 4 if since(release, "2.11") else 1  # from then on the others are refused
    fields = common(draw, release, (*UNRECORDED * weight, *learning))
    if low := one_of(draw, *[""] * 5, *release.low_dtypes):
        fields |= {"dtype": low, "garbage": False}
    L, S = lengths(draw)
    D, Dv = draw(evenly(_FEATURES if since(release, "2.7") else _FEATURES + _POWERS_OF_2 * 2))  # others are refused
    batch, kv_heads = draw(evenly(_BATCHES))
    masks = _masks(draw)
    if 0 in (batch[0], L, S):  # functions cannot read a mask without elements
        masks = {"kept_mask": Mask("bool", "causal") if masks.get("kept_mask") else None}
    may_join = masks.get("kept_mask") is not None and batch[0] > 0  # joined functions look at the first sample
    case = FlexAttention(
        **fields,
        batch=batch,
        kv_heads=kv_heads,
        L=L,
        S=S,
        D=D,
        Dv=Dv,
        scale=one_of(draw, None, None, 0.5, 2.0, -1.0, 0.0),
        softcap=one_of(draw, *[None] * 4, 2.0),
        joined=one_of(draw, *[""] * 6, "and", "or") if may_join else "",
        lse=one_of(draw, "", "return_lse", *["return_aux"] * release.has_aux_request),
        mask_batch=one_of(draw, (1, 1), (1, batch[1]), (batch[0], 1), batch),
        **masks,
    )
    if any(case.shares_mask) and (case.reads_kept_mask or case.added_mask is not None):
        case = replace(case, by_number=one_of(draw, False, False, False, True))
    if case.slices_samples:
        case = replace(case, mask_batch=(batch[0], case.mask_batch[1]))
    case = case if release.offers(case) else replace(case, blocks_by="create_block_mask")
    spoiled = replace(case, nonfinite=one_of(draw, *[""] * 15, "nan", "nan", "inf"), garbage=False, autograd="no_grad")
    return spoiled if spoiled.nonfinite and nonfinite_positions(spoiled) else case


_FEATURES = tuple((D, Dv) for D in (4, 8, 16, 1, 2, 3, 5, 17, 32) for Dv in (D, D, 1, 2, 3))
_POWERS_OF_2 = tuple((D, Dv) for D in (2, 4, 8, 16) for Dv in (2, 4, 8, 16)) * 6
_BATCHES = (
    *(((n, h), None) for n in (1, 2, 3) for h in (1, 2, 3)),
    *(((n, kv * group), kv) for n in (1, 2) for kv in (1, 2) for group in (1, 2, 3)),
    ((0, 2), None),
    ((1, 8), None),
)
_KEPT = evenly((*(Mask("bool", pattern) for pattern in ATTENTION_PATTERNS), *[Mask("bool", "causal")] * 4))
_FORMS = (*[("bool", "inf")] * 6, *(("float", values) for values in ("bias", "inf", "slight", "finite", *VALUES)))
_ADDED = evenly(tuple(Mask(form, pattern, values) for pattern in ATTENTION_PATTERNS for form, values in _FORMS))
_SIZES_OF_BLOCKS = ((128, 128), (1, 1), (2, 2), (2, 3), (16, 4), (1, 8), (32, 64))
_MAKERS = (*("create_block_mask", "lists") * 4, "adjustment", *ADJUSTMENTS, "narrow_lists", *SLICES)
_BLOCKS = evenly(tuple(product(_MAKERS, _SIZES_OF_BLOCKS)))


def _masks(draw):
    """The fields of the masks: none, either or both; a third are no BlockMask, and half no score_mod."""
    fields: dict = {}
    if one_of(draw, False, True, True):
        blocks_by, block_size = draw(_BLOCKS)
        pattern = {"kept_mask": draw(_KEPT)}
        if blocks_by in LISTS and one_of(draw, False, True):
            pattern = {"kept_mask": Mask("bool", "none")}
        fields |= {"blocks_by": blocks_by, "block_size": block_size, **pattern}
    if one_of(draw, False, True):
        fields |= {"added_mask": draw(_ADDED)}
    layouts = {name: one_of(draw, *MEMORY_LAYOUTS) for name, its in fields.items() if type(its) is Mask}
    return fields | {name: replace(fields[name], layout=layout) for name, layout in layouts.items()}
