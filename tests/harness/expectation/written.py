"""Kernels of attention that is written by hand (modes/written.py): torch's eager arithmetic."""

from collections.abc import Callable

import numpy as np

from reference import masks as meaning
from reference.attention import attend

from ..cases.case import Case
from ..modes.written import fills_with_a_number
from .arithmetic import multiplying


def kernel_of(case: Case) -> Callable:
    """The kernel that the case's mode writes out: a fully masked query gives NaN, or the mean of all values."""
    return attending_to_all if fills_with_a_number(case) else multiplying


def attending_to_all(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """(context, weights); a query that no key is visible to attends to all keys alike: its scores are all finfo.min."""
    context, weights = attend(query, key, value, bias, scale)
    if bias is None:
        return context, weights
    empty = np.broadcast_to(meaning.hidden(bias), weights.shape).all(axis=-1, keepdims=True)
    mean = value.mean(axis=-2, keepdims=True)
    return np.where(empty, mean, context), np.where(empty, 1 / weights.shape[-1], weights)
