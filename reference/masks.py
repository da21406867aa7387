"""What a mask means: a number added to each score, where -inf hides the key (clauses 1 and 2).

Shapes use N (batch), H (num_heads), L (queries) and S (keys).
"""

import numpy as np


def causal(L, S):
    """Bool (L, S), True where query i must not see key j > i, aligned at the top left (clause 6)."""
    return np.arange(S) > np.arange(L)[:, None]


def as_bias(mask, dtype, true_hides=True):
    """The additive form of a mask: a bool one becomes 0 / -inf, a float one is already it.

    `true_hides` is the convention of the nn modules; scaled_dot_product_attention has the other one (clause 2).
    """
    if mask.dtype != bool:
        return mask
    hidden = mask if true_hides else ~mask
    return np.where(hidden, -np.inf, 0.0).astype(dtype)


def dtype_of(masks, otherwise):
    """The dtype in which masks are added: that of the float ones, or `otherwise` if there are none."""
    given = [mask.real.dtype for mask in masks if mask is not None and mask.dtype != bool]
    return np.result_type(*given) if given else otherwise


def merge(*biases, rounded=None):
    """The sum of all biases that are not None, rounded as their dtype rounds (clause 1); None if there are none.

    rounded: rounds an array to the dtype of the masks, if that is not the dtype that holds them. A derivative passes
    through the rounding.
    """
    given = [bias for bias in biases if bias is not None]
    with np.errstate(over="ignore"):  # finfo.min + finfo.min is -inf: hidden
        total = sum(given[1:], given[0]) if given else None
    if rounded is None or len(given) < 2:
        return total
    finite = np.where(np.isfinite(total.real), total.real, 0)
    return total + (rounded(finite) - finite)


def over_heads(attn_mask, num_heads):
    """(L, S) or (N * H, L, S) as (1, 1, L, S) or (N, H, L, S): slice n * H + h belongs to batch n and head h."""
    L, S = attn_mask.shape[-2:]
    if attn_mask.ndim == 2:
        return attn_mask.reshape(1, 1, L, S)
    return attn_mask.reshape(attn_mask.shape[0] // num_heads, num_heads, L, S)


def over_queries(key_padding_mask):
    """(N, S) as (N, 1, 1, S): a key that is padding is padding for every head and query."""
    return key_padding_mask[:, None, None, :]


def show_more_keys(bias, count=1):
    """Append `count` keys that no mask hides (clause 7)."""
    if bias is None:
        return None
    return np.concatenate([bias, np.zeros((*bias.shape[:-1], count), bias.dtype)], axis=-1)


def hidden(bias):
    """True where a key is hidden."""
    return np.isneginf(bias.real)
