"""Masks of every kind, and true hints about them."""

from dataclasses import replace
from functools import cache
from itertools import product

from ..cases.masks import ATTENTION_PATTERNS, PADDING_PATTERNS, VALUES, Mask
from .basics import MEMORY_LAYOUTS, evenly, one_of

_FORMS = (*[("bool", "inf")] * 12, *(("float", values) for values in ("inf", "bias", "finite", *VALUES)))

_DTYPES_OF_MASKS = (*[None] * 15, "float32", "float32", "float64", "bfloat16", "float16")
_PADDINGS = tuple(Mask(form, pattern, values) for pattern in PADDING_PATTERNS for form, values in _FORMS)
_MASKS = (
    tuple(
        Mask(form, pattern, values, per_head)
        for per_head in (False, True)
        for pattern in ATTENTION_PATTERNS
        for form, values in _FORMS
    )
    + (Mask("bool", "causal"), Mask("float", "causal")) * 64  # what most people use, and what hints speak of
    + (Mask("bool", "nearly_causal"), Mask("float", "nearly_causal")) * 12  # and what may be taken for it
    + (Mask("float", "causal", "bias"), Mask("float", "causal", "bias", per_head=True)) * 16  # biases of positions
)


_LAYOUTS_AND_DTYPES = evenly(tuple(product(MEMORY_LAYOUTS, _DTYPES_OF_MASKS)))


@cache
def _optional(is_padding, nones):
    """A mask or None; the more `nones`, the more often."""
    recipes = _PADDINGS if is_padding else _MASKS
    return evenly((*[None] * (nones * len(recipes) // 4), *recipes))


def attention_mask(draw, release, nones=2, is_padding=False):
    """An attention mask of any recipe and layout, or None; a float one seldom of a dtype that is not the inputs'."""
    recipe = draw(_optional(is_padding, nones))
    if recipe is None:
        return None
    layout, dtype = draw(_LAYOUTS_AND_DTYPES)
    if recipe.is_float and dtype in release.mask_dtypes:
        recipe = replace(recipe, dtype=dtype)
    if layout == "contiguous":
        return recipe
    if layout == "expanded" and not is_padding:  # over the queries, if all of them see the same
        recipe = replace(recipe, pattern=one_of(draw, recipe.pattern, "column", "last_column"))
    return replace(recipe, layout=layout)


def padding_mask(draw, release, nones=2):
    """A key padding mask, or None."""
    return attention_mask(draw, release, nones, is_padding=True)


def _is_causal(mask):
    return mask is not None and mask.pattern == "causal" and mask.values == "inf"


def hint(draw, mask):
    """A true hint about the mask, or none: a false one is undefined (clause 6). False claims nothing, of any mask."""
    return one_of(draw, None, True, True, False) if _is_causal(mask) else one_of(draw, None, None, False)
