"""Calls of F.scaled_dot_product_attention."""

from dataclasses import replace
from functools import cache
from itertools import product

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD, UNRECORDED, ScaledDotProduct
from ..execution.release import Release
from .basics import LONG, QUERIES, common, evenly, lengths, one_of
from .masks import attention_mask


@st.composite
def scaled_dot_product_cases(draw: st.DrawFn, release: Release, inference: bool = False) -> ScaledDotProduct:
    """Calls of F.scaled_dot_product_attention: 2-D to 5-D, with masks of every broadcastable shape.

    inference: only the autograd settings UNRECORDED.
    """
    batch, kv_heads = draw(_batches(release.has_enable_gqa))
    is_long = batch == (1, 1) and one_of(draw, False, True)
    L, S = draw(evenly(LONG)) if is_long else lengths(draw, QUERIES)
    L, S = one_of(draw, *[(L, S)] * 8, (batch[0], S), (batch[-1],) * 2) if batch else (L, S)
    D, Dv = draw(evenly(_FEATURES * 2 + _RARE_FEATURES if release.device_type == "cpu" else _FEATURES + _ALIGNED))
    D = D if release.has_scale else max(D, 1)  # there is no default scale without features
    case = ScaledDotProduct(
        **common(draw, release, UNRECORDED if inference else (*AUTOGRAD[:-2], "one_input")),
        batch=batch,
        kv_heads=kv_heads,
        L=L,
        S=S,
        D=D,
        Dv=Dv,
        is_causal=one_of(draw, *[False] * (1 if is_long else 4), True),
        scale=one_of(draw, *[None] * (3 if D else 0), 0.5, 2.0, 1.0, -1.0, 0.0) if release.has_scale else None,
        dropout=one_of(draw, *[0.0] * 10, 0.5, 0.1) if release.shows_dropout else 0.0,
    )
    attn_mask = None if case.is_causal else attention_mask(draw, release, nones=1)
    if attn_mask is None:
        return release.adapt(case)
    return release.adapt(replace(case, **_mask_of_a_shape(draw, attn_mask, batch)))


def _mask_of_a_shape(draw, mask, batch):
    """The fields of a mask of some broadcastable shape, often that of padding, or with equal heads or samples."""
    if len(batch) == 2 and one_of(draw, *[False] * 9, True):  # (N, 1, 1, S)
        padding = replace(mask, pattern=one_of(draw, "right", mask.pattern), per_head=False)
        return {"attn_mask": padding, "mask_batch": (batch[0], 1), "broadcast": "L"}
    mask_batch: tuple[int, ...] = batch if mask.per_head else one_of(draw, *_broadcastable(batch))
    broadcast = one_of(draw, *[""] * 6, "L", "L", "S", "S", "1-D", "0-D")
    mask_batch = () if broadcast.endswith("-D") else mask_batch
    has_heads = len(mask_batch) > 1 and mask_batch[-1] > 1
    alike = one_of(draw, "", "over_heads", "over_heads", "over_samples") if has_heads else ""
    if alike == "over_samples":  # as biases of each head, which are mostly expanded over the samples
        mask = replace(mask, layout=one_of(draw, "expanded", mask.layout))
    mask = replace(mask, per_head=False, **{alike: True} if alike else {})
    return {"attn_mask": mask, "mask_batch": mask_batch, "broadcast": broadcast}


_WIDE = ((17, 17), (33, 3), (65, 65))  # wider than a vector
_FEATURES = (*((D, Dv) for D in (1, 2, 3, 4, 8, 16) for Dv in (D, D, 1, 3)), *_WIDE)
_RARE_FEATURES = ((0, 1), (0, 3), (3, 0), (3, 0), (64, 64), (80, 80), (128, 128), (257, 129))
_ALIGNED = tuple((D, D) for D in (8, 16, 24, 32, 64, 128, 136, 256, 4, 12, 20)) * 4  # sizes of a GPU's fused kernels


_MORE_HEADS = ((5, 1), (1, 8), (2, 17), (17, 4))
_WITHOUT_HEADS = ((2, 0), (0,), (2, 0, 2))
_WITHOUT_BATCH = ((),) * 2
# ((samples, heads), heads of keys), and of other dimensions
_GROUPED: tuple[tuple[tuple[int, ...], int], ...] = (
    *(((1, 3), 1), ((1, 4), 2), ((1, 6), 2), ((1, 8), 2), ((2, 1), 1), ((2, 4), 2), ((2, 6), 3)),
    *(((4,), 2), ((2, 1, 4), 2), ((2, 2), 2)),
)


@cache
def _batches(has_enable_gqa):
    """A strategy for (batch dimensions, kv_heads or None)."""
    plain = [((n, h), None) for n in (1, 2, 3) for h in (1, 2, 3)]
    others = ((3,), (2, 3, 2), (2, 2, 3), (0, 2), *_MORE_HEADS, *_WITHOUT_HEADS, *_WITHOUT_BATCH)
    plain += [(batch, None) for batch in others]
    return evenly((*plain, *(_GROUPED if has_enable_gqa else ())))


def _broadcastable(batch):
    """The batch dimensions of a mask that broadcast to `batch`. None at all is repeated, as the most common."""
    tails = [batch[len(batch) - kept :] for kept in range(len(batch) + 1)]
    shapes = dict.fromkeys(shape for tail in tails for shape in product(*((1, size) for size in tail)))
    return (*[()] * 3, *shapes, *[batch] * 2)
