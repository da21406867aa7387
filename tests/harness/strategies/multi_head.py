"""Calls of nn.MultiheadAttention and of F.multi_head_attention_forward."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ..cases.case import ATTENTIONS, AUTOGRAD, LEARNED, OF_ONE_LENGTH, UNRECORDED, MultiHead
from ..execution.release import Release
from .basics import (
    DROPOUTS,
    LENGTHS,
    LENGTHS_OF_NATIVE_PATHS,
    SAMPLES,
    coincidences,
    common,
    evenly,
    heads,
    lengths,
    one_of,
    small_if_long,
    variations,
    without_contradictions,
)
from .masks import attention_mask, hint, padding_mask


@st.composite
def multi_head_cases(draw: st.DrawFn, release: Release, inference: bool = False, functional: bool = False) -> MultiHead:
    """Calls of nn.MultiheadAttention, or, if `functional`, of F.multi_head_attention_forward.

    inference: in settings that open the fast path: eval, batched, batch_first, an even number of heads, and an
    autograd setting that may leave the fast path open; few break one of these conditions.
    """
    attention = one_of(draw, *["self"] * 6, "distinct", "query_is_key") if inference else one_of(draw, *ATTENTIONS)
    own = LENGTHS_OF_NATIVE_PATHS if inference and attention == "self" else LENGTHS
    L, S = (one_of(draw, *own),) * 2 if attention in OF_ONE_LENGTH else lengths(draw)
    attn_mask, key_padding_mask = attention_mask(draw, release), padding_mask(draw, release)
    case = MultiHead(
        **common(
            draw, release, (*UNRECORDED, "one_parameter") if inference else (*AUTOGRAD[:-1], "one_input", LEARNED)
        ),
        **heads(draw, inference),
        N=draw(evenly(SAMPLES)),
        L=L,
        S=S,
        attention=attention,
        attn_mask=attn_mask,
        key_padding_mask=key_padding_mask,
        is_causal=bool(release.has_causal_hints and hint(draw, attn_mask)),
        functional=functional,
        **draw(_WEIGHTS),
    )
    options: list[dict[str, Any]] = [{"dropout": 0.5}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}]
    if not inference and release.shows_dropout:
        options += DROPOUTS
    options += [{"fast_path": False}] if release.has_fast_path_switch else []
    if attention == "distinct":
        options += [{"kdim": case.E + 1, "vdim": case.E + 2}] * 2 + [{"kdim": case.E + 1}, {"vdim": case.E + 1}]
    if attention == "query_is_key":
        options += [{"vdim": case.E + 1}]
    if attention == "cross":
        options += [{"kdim": width, "vdim": width} for width in (case.E + 1, max(case.E - 1, 1))]
    if functional:
        options += [{"static": True}] * 2
    options += [{"training": True}, {"batched": False}, *[{"batch_first": False}] * (not functional)]
    options += coincidences(case, "S", {"L": case.num_heads, "S": case.num_heads})
    chosen = variations(draw, *options, rarely=inference)
    return release.adapt(small_if_long(replace(case, **without_contradictions(chosen, release))))


_WEIGHTS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"need_weights": need, "average_attn_weights": average} for need in (True, False) for average in (True, False)]
)
