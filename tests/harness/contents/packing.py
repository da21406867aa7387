"""Modes that pack the samples into a nested tensor: the padding that they leave out, which torch never sees."""

from dataclasses import replace

import numpy as np

from ..cases.case import MultiHead, ScaledDotProduct, Transformer
from ..modes.modes import BY_ID
from .arrays import mask_arrays

NESTED = "nested_strided"  # the family of these modes


BESIDE = "nested_beside_padding"  # the one that gives torch the padding besides, which it takes of no nested tensor


def packs(case):
    """True if the case's mode packs."""
    return BY_ID[case.mode].family == NESTED


def padding_of(case):
    """The name of the mask that says where the samples end; None if the case gives none."""
    if isinstance(case, ScaledDotProduct):
        is_padding = case.attn_mask is not None and len(case.mask_batch) == len(case.batch)
        return "attn_mask" if is_padding else None
    name = {MultiHead: "key_padding_mask", Transformer: "src_key_padding_mask"}[type(case)]
    return name if getattr(case, name) is not None else None


def without_padding(case):
    """The case as torch meets it."""
    name = None if case.mode == BESIDE else padding_of(case)
    return replace(case, **{name: None}) if name else case


def lengths(case):
    """How many keys each sample has."""
    if name := padding_of(case):
        array = mask_arrays(case)[name]
        kept = array if isinstance(case, ScaledDotProduct) else ~array
        return tuple(int(length) for length in kept.reshape(len(kept), -1).sum(axis=1))
    samples = case.batch[0] if isinstance(case, ScaledDotProduct) else case.N
    return (case.S,) * samples


def padded_queries(case):
    """bool, broadcastable to the rows of scaled_dot_product_attention: those that are left out; None if none are."""
    if not packs(case) or padding_of(case) is None or case.L != case.S:
        return None
    kept = np.arange(case.L) < np.reshape(lengths(case), (-1, *[1] * (len(case.batch) - 1), 1))
    return ~kept
