"""Calls of any module or function."""

from collections.abc import Sequence

from hypothesis import strategies as st

from ..cases.case import FlexAttention, SquareSubsequentMask
from ..execution.release import Release
from .basics import mixed
from .flex import flex_attention_cases
from .multi_head import multi_head_cases
from .sdpa import scaled_dot_product_cases
from .square_mask import square_mask_cases
from .transformer import transformer_cases

MODULES = (
    "MultiheadAttention",
    "multi_head_attention_forward",
    "TransformerEncoderLayer",
    "TransformerEncoder",
    "TransformerDecoderLayer",
    "TransformerDecoder",
    "Transformer",
)


def cases_of(release: Release, module: str, inference: bool = False) -> st.SearchStrategy:
    """Calls of the module or function of this name. inference: in the settings that open the fast path."""
    if module == SquareSubsequentMask.module:
        return square_mask_cases(release)
    if module == FlexAttention.module:
        return flex_attention_cases(release, inference)
    if module == "scaled_dot_product_attention":
        return scaled_dot_product_cases(release, inference)
    if module == "MultiheadAttention":
        return multi_head_cases(release, inference=inference)
    if module == "multi_head_attention_forward":
        return multi_head_cases(release, functional=True)
    return transformer_cases(release, module, inference=inference)


WITH_PARAMETERS = [module for module in MODULES if module != "multi_head_attention_forward"]
LAYERS = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer")


def module_cases(
    release: Release, modules: Sequence[str] = WITH_PARAMETERS, inferring: Sequence[bool] = (False, True)
) -> st.SearchStrategy:
    """Calls of these modules. inferring: the values of `inference` to draw from (see `cases_of`)."""
    return st.one_of([cases_of(release, module, inference) for module in modules for inference in inferring])


def any_cases(release: Release) -> st.SearchStrategy:
    """Calls of any module, and of both functions. For an adopted implementation, of that which it replaces."""
    if release.adopted:
        return st.one_of([cases_of(release, release.adopted.replaces, inference) for inference in (False, True)])
    kinds = [*[module_cases(release)] * 6, cases_of(release, "multi_head_attention_forward")]
    if release.has_scaled_dot_product_attention:
        kinds += [scaled_dot_product_cases(release)] * 2
    return mixed(*kinds)
