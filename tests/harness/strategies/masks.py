"""Masks of every kind, and true hints about them."""

from dataclasses import replace
from functools import cache
from itertools import product

from hypothesis import strategies as st

from ..cases.masks import ATTENTION_PATTERNS, NAN, PADDING_PATTERNS, VALUES, Mask
from ..execution.release import Release
from .basics import MEMORY_LAYOUTS, evenly, one_of

_FORMS = (*[("bool", "inf")] * 12, *(("float", values) for values in ("inf", "bias", "finite", *VALUES)))

_DTYPES_OF_MASKS = (*[None] * 16, *["float32"] * 3, *["float64"] * 2, "bfloat16", "float16")
_PADDINGS = tuple(Mask(form, pattern, values) for pattern in PADDING_PATTERNS for form, values in _FORMS)
_MASKS = (
    tuple(
        Mask(form, pattern, values, per_head)
        for per_head in (False, True)
        for pattern in ATTENTION_PATTERNS
        for form, values in _FORMS
    )
    + (Mask("bool", "causal"), Mask("float", "causal")) * 64  # the most common masks; hints are about these
    + (Mask("bool", "nearly_causal"), Mask("float", "nearly_causal")) * 12  # torch may take these for causal
    + (Mask("float", "causal", "bias"), Mask("float", "causal", "bias", per_head=True)) * 16  # position biases
)


_LAYOUTS_AND_DTYPES = evenly(tuple(product(MEMORY_LAYOUTS, _DTYPES_OF_MASKS)))


@cache
def _optional(is_padding, nones):
    """A strategy for a mask or None; a larger `nones` gives None more often."""
    recipes = _PADDINGS if is_padding else _MASKS
    return evenly((*[None] * (nones * len(recipes) // 4), *recipes))


def attention_mask(draw: st.DrawFn, release: Release, nones: int = 2, is_padding: bool = False) -> Mask | None:
    """An attention mask of any recipe and layout, or None; few float masks have another dtype than the inputs.

    nones: a larger number gives None more often. is_padding: a key padding mask instead.
    """
    recipe = draw(_optional(is_padding, nones))
    if recipe is None:
        return None
    if recipe.values not in release.mask_values:
        recipe = replace(recipe, values="inf")
    if recipe.values == NAN:  # mostly in one place, since a call tells nothing if all queries are spoilt
        recipe = replace(
            recipe, pattern=one_of(draw, "one", "one", "one" if recipe.pattern == "all" else recipe.pattern)
        )
    layout, dtype = draw(_LAYOUTS_AND_DTYPES)
    if recipe.is_float and dtype in release.mask_dtypes:
        recipe = replace(recipe, dtype=dtype)
    if layout == "contiguous":
        return recipe
    if layout == "expanded" and not is_padding:  # only a mask of equal rows can be expanded over queries
        recipe = replace(recipe, pattern=one_of(draw, recipe.pattern, "column", "last_column"))
    return replace(recipe, layout=layout)


def padding_mask(draw: st.DrawFn, release: Release, nones: int = 2) -> Mask | None:
    """A key padding mask, or None; a larger `nones` gives None more often."""
    return attention_mask(draw, release, nones, is_padding=True)


def _is_causal(mask):
    return mask is not None and mask.pattern == "causal" and mask.values == "inf"


def hint(draw: st.DrawFn, mask: Mask | None) -> bool | None:
    """is_causal for a mask: True only if the mask is causal (else it is undefined, clause 6); False or None for any."""
    return one_of(draw, None, True, True, False) if _is_causal(mask) else one_of(draw, None, None, False)
