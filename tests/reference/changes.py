"""Changes of the arguments of a MultiHeadAttention: keep some keys, hide a key, expand a mask."""

import numpy as np

MASKS = ["attn_mask", "key_padding_mask"]
_AXIS_OF_KEYS = {"key": 1, "value": 1, "static_k": 1, "static_v": 1, "attn_mask": -1, "key_padding_mask": -1}


def given(arguments, name):
    return arguments.get(name) is not None


def with_keys(arguments, chosen):
    """The arguments with the chosen keys only, in the chosen order; masks and static keys are cut likewise."""
    names = [name for name in _AXIS_OF_KEYS if given(arguments, name)]
    return arguments | {name: arguments[name].take(chosen, _AXIS_OF_KEYS[name]) for name in names}


def hiding(arguments, name, j):
    """The arguments with key j hidden by the mask of this name."""
    (N, L), S = arguments["query"].shape[:2], arguments["key"].shape[1]
    return arguments | {name: hiding_too(arguments[name], j, (L if name == "attn_mask" else N, S))}


def hiding_too(mask, j, shape):
    """The mask with key j hidden as well; a bool mask of this shape if `mask` is None."""
    mask = np.zeros(shape, bool) if mask is None else mask.copy()
    mask[..., j] = True if mask.dtype == bool else -np.inf
    return mask


def float_twin(mask):
    return np.where(mask, -np.inf, 0.0) if mask is not None and mask.dtype == bool else mask


def bias_of_each_head(mask, shape):
    """The float attn_mask (L, S) or (N * H, L, S) expanded to (N, H, L, S), entry by entry."""
    bias = np.empty(shape)
    for n, h, i, j in np.ndindex(*shape):
        bias[n, h, i, j] = mask[i, j] if mask.ndim == 2 else mask[n * shape[1] + h, i, j]
    return bias


def seen(arguments, shape):
    """A bool array of the weights' shape (N, H, L, S + appended): True at [n, h, i, j] if query i sees key j."""
    result = np.ones(shape, bool)
    N, H, L, S = (*shape[:3], arguments["key"].shape[1])
    attn_mask, padding = (float_twin(arguments[name]) for name in MASKS)
    bias = np.zeros((N, H, L, S)) if attn_mask is None else bias_of_each_head(attn_mask, (N, H, L, S))
    with np.errstate(over="ignore"):
        bias = bias if padding is None else bias + padding[:, None, None, :]
    result[..., :S] = bias != -np.inf
    return result
