"""Masks in additive form: a number added to each score, and -inf hides the key (clauses 1 and 2).

Shapes use N (batch), H (num_heads), L (queries) and S (keys).
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import DTypeLike


def causal(L: int, S: int) -> np.ndarray:
    """The causal mask, bool (L, S): True hides key j from query i if j > i, aligned at the top left (clause 6)."""
    return np.arange(S) > np.arange(L)[:, None]


def as_bias(mask: np.ndarray, dtype: DTypeLike, true_hides: bool = True) -> np.ndarray:
    """The additive form of a mask: a bool mask becomes 0 and -inf in `dtype`, a float mask is returned unchanged.

    true_hides: True for masks of the nn modules, False for masks of scaled_dot_product_attention (clause 2).
    """
    if mask.dtype != bool:
        return mask
    hidden = mask if true_hides else ~mask
    return np.where(hidden, -np.inf, 0.0).astype(dtype)


def dtype_of(masks: Iterable[np.ndarray | None], otherwise: DTypeLike) -> DTypeLike:
    """The dtype in which masks are added: the common dtype of the float masks, or `otherwise` if there are none."""
    given = [mask.real.dtype for mask in masks if mask is not None and mask.dtype != bool]
    return np.result_type(*given) if given else otherwise


def merge(*biases: np.ndarray | None, rounded: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray | None:
    """The sum of all biases that are not None, rounded in their dtype (clause 1); None if all are None.

    rounded: rounds an array to the dtype of the masks, if the arrays are held in a wider dtype. Derivatives pass
    through the rounding unchanged.
    """
    given = [bias for bias in biases if bias is not None]
    with np.errstate(over="ignore"):  # finfo.min + finfo.min is -inf: hidden
        total = sum(given[1:], given[0]) if given else None
    if total is None or rounded is None or len(given) < 2:
        return total
    finite = np.where(np.isfinite(total.real), total.real, 0)
    return total + (rounded(finite) - finite)


def over_heads(attn_mask: np.ndarray, num_heads: int) -> np.ndarray:
    """(L, S) as (1, 1, L, S), or (N * H, L, S) as (N, H, L, S): slice n * H + h belongs to sample n and head h."""
    L, S = attn_mask.shape[-2:]
    if attn_mask.ndim == 2:
        return attn_mask.reshape(1, 1, L, S)
    return attn_mask.reshape(attn_mask.shape[0] // num_heads, num_heads, L, S)


def over_queries(key_padding_mask: np.ndarray) -> np.ndarray:
    """(N, S) as (N, 1, 1, S): a padded key is padding for every head and every query."""
    return key_padding_mask[:, None, None, :]


def show_more_keys(bias: np.ndarray | None, count: int = 1) -> np.ndarray | None:
    """Append `count` keys that no mask hides (clause 7): (..., S) -> (..., S + count). None stays None."""
    if bias is None:
        return None
    return np.concatenate([bias, np.zeros((*bias.shape[:-1], count), bias.dtype)], axis=-1)


def hidden(bias: np.ndarray) -> np.ndarray:
    """True at hidden keys; bool, of the shape of the bias."""
    return np.isneginf(bias.real)
