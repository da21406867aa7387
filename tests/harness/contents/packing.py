"""Modes that pack the samples into a nested tensor, and the padding that the packing leaves out."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..cases.case import Case, MultiHead, ScaledDotProduct, Transformer
from ..modes.modes import BY_ID
from .arrays import mask_arrays

NESTED_STRIDED = "nested_strided"  # the family of these modes
BESIDE = "nested_beside_padding"  # also passes the padding mask, which torch refuses beside a nested tensor

# The modes in which scaled_dot_product_attention gets jagged tensors of samples of different lengths.
JAGGED = (
    "nested_jagged",
    "jagged_narrow",
    "jagged_contiguous",
    "jagged_from_values",
    "jagged_to_padded",
    "jagged_values_to_padded",
)


def packs(case: Case) -> bool:
    """True if the mode of the case packs the samples into a nested tensor."""
    return BY_ID[case.mode].family == NESTED_STRIDED


def padding_of(case: Case) -> str | None:
    """The name of the mask that determines the lengths of the samples; None if the case has no such mask."""
    if isinstance(case, ScaledDotProduct):
        is_padding = case.attn_mask is not None and len(case.mask_batch) == len(case.batch)
        return "attn_mask" if is_padding else None
    name = {MultiHead: "key_padding_mask", Transformer: "src_key_padding_mask"}[type(case)]
    return name if getattr(case, name) is not None else None


def without_padding(case: Case) -> Case:
    """The case with the masks that torch receives: without the mask that the packing consumes."""
    name = None if case.mode == BESIDE else padding_of(case)
    if name is None:
        return case
    without: dict[str, Any] = {name: None}
    return replace(case, **without)


def lengths(case: Case) -> tuple[int, ...]:
    """The number of keys of each sample."""
    if name := padding_of(case):
        array = mask_arrays(case)[name]
        kept = ~array if case.true_hides else array
        return tuple(int(length) for length in kept.reshape(len(kept), -1).sum(axis=1))
    return (case.S,) * case.batch_size


def padded_queries(case: Case) -> np.ndarray | None:
    """True for queries of scaled_dot_product_attention that the packing leaves out; None if it leaves out none.

    The bool array is broadcastable to (*batch, L).
    """
    if not packs(case) or padding_of(case) is None or case.L != case.S:
        return None
    kept = np.arange(case.L) < np.reshape(lengths(case), (-1, *[1] * (len(case.batch) - 1), 1))
    return ~kept
