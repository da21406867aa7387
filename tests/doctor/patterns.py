"""The pattern of a mask: the positions that it hides, and its name in words."""

from typing import TYPE_CHECKING

import numpy as np

from reference import masks as meaning

if TYPE_CHECKING:
    from .mistakes import Attention


def hides(array: np.ndarray, true_keeps: bool) -> np.ndarray:
    """bool array: True where the mask hides; float masks hide where they are -inf or as low as -1e4."""
    if array.dtype == bool:
        return ~array if true_keeps else array
    return array <= -1e4


def is_sorted(rows: np.ndarray) -> bool:
    """True if no visible key follows a hidden one in any row of a bool array (N, S)."""
    return not (rows[:, :-1] & ~rows[:, 1:]).any()


def is_inverted_causal(hidden: np.ndarray) -> bool:
    """True if a mask of scores (..., L, S) hides exactly what a causal mask shows, with or without the diagonal."""
    if hidden.ndim < 2 or min(hidden.shape[-2:]) < 2 or hidden.size == 0:
        return False
    i, j = np.ogrid[: hidden.shape[-2], : hidden.shape[-1]]
    return any(bool((hidden == past).all()) for past in (j <= i, j < i))


def is_inverted_padding(rows: np.ndarray) -> bool:
    """True if padding (N, S) hides the first key of every sample, and nearly everything, or whole samples."""
    if not rows.size or not rows[:, 0].all() or rows.all():
        return False
    return bool(rows.all(axis=1).any() or rows.mean() > 0.9)


def hides_per_score(attention: "Attention") -> np.ndarray | None:
    """bool (N or 1, H or 1, L or 1, S): the positions that both masks hide together; None without masks.

    A mask of scaled_dot_product_attention gets two dimensions in front of its last two.
    """
    attn_mask, padding = (attention.array(name) for name in (attention.attn_mask, attention.key_padding_mask))
    parts = []
    if attn_mask is not None and attn_mask.ndim >= 2:
        hidden = hides(attn_mask, attention.true_keeps)
        lead = hidden.shape[:-2]
        hidden = hidden.reshape(
            int(np.prod(lead[:-1])) if len(lead) > 1 else 1, *(lead[-1:] or (1,)), *hidden.shape[-2:]
        )
        parts.append(hidden)
    if padding is not None:
        rows = np.atleast_2d(hides(padding, False))
        if parts and parts[0].shape[1] > 1:  # one mask for each sample and head
            rows = np.repeat(rows, parts[0].shape[1] // len(rows), axis=0)[None]
            parts.append(rows[:, :, None, :])
        else:
            parts.append(rows[:, None, None, :])
    if not parts:
        return None
    together = parts[0] if len(parts) == 1 else parts[0] | parts[1]
    queries = attention.made.tensors.get("query")
    if together.shape[-2] == 1 and queries is not None and attention.true_keeps:
        together = np.broadcast_to(together, (*together.shape[:-2], queries.shape[-2], together.shape[-1]))
    return together


def in_words(array: np.ndarray, true_keeps: bool, is_padding: bool) -> str:
    """The pattern of a mask in words: "causal", "right padding", "hides 20 %"."""
    if array.dtype != bool and not np.issubdtype(array.dtype, np.floating):
        return "no mask of a documented type"
    hidden = hides(array, true_keeps)
    is_nan = np.isnan(array) if array.dtype != bool else np.zeros_like(array)
    is_biased = array.dtype != bool and bool(((array != 0) & ~hidden & ~is_nan).any())
    nan = " with NaN" if is_nan.any() else ""
    if not hidden.any():
        return ("a bias that hides nothing" if is_biased else "hides nothing") + nan
    return _hiding(hidden, is_padding) + nan + (" with a bias" if is_biased else "")


def _hiding(hidden, is_padding):
    if hidden.all():
        return "hides everything"
    if is_padding or hidden.ndim < 2 or hidden.shape[-2] == 1:
        rows = np.atleast_2d(hidden.reshape(-1, hidden.shape[-1]))
        return "right padding" if is_sorted(rows) else "left padding" if is_sorted(rows[:, ::-1]) else _share(hidden)
    L, S = hidden.shape[-2:]
    slices, causal = hidden.reshape(-1, L, S), meaning.causal(L, S)
    if (slices == causal).all():
        return "causal"
    if L != S and (slices == (np.arange(S) > np.arange(L)[:, None] + S - L)).all():
        return "causal, aligned at the last key"
    if L == S and (words := _of_runs(~slices)):
        return words
    if (hidden | ~causal).all():
        return "causal and more"
    if (slices == slices[:, :1]).all():
        return f"padding ({_share(hidden)})"
    return _share(hidden)


def _of_runs(visible):
    """The pattern of a mask (N, L, L) in words if each query sees itself in one run of keys; empty for others."""
    L, own = visible.shape[-1], np.arange(visible.shape[-1])
    first, last = visible.argmax(axis=-1), L - 1 - visible[..., ::-1].argmax(axis=-1)
    has_gaps = (visible != ((first[..., None] <= own) & (own <= last[..., None]))).any()
    if has_gaps or not ((first <= own) & (own <= last)).all():
        return ""
    window = L - int(first[0, -1])
    begins = first[:, 1:] == own[1:]  # a document begins with this query
    if (last == own).all():
        if (first == np.maximum(own - window + 1, 0)).all():
            return f"causal, in a sliding window of {window}"
        return "causal within documents" if (begins | (first[:, 1:] == first[:, :-1])).all() else ""
    prefixes = last[:, :1] + 1
    if (first == 0).all() and (last == np.maximum(own, prefixes - 1)).all():
        shortest, longest = prefixes.min(), prefixes.max()
        return "causal behind a prefix of " + (f"{longest}" if shortest == longest else f"{shortest} to {longest}")
    inside = (first[:, 1:] == first[:, :-1]) & (last[:, 1:] == last[:, :-1])
    return "within documents" if (inside | (begins & (last[:, :-1] == own[:-1]))).all() else ""


def _share(hidden):
    return f"hides {100 * hidden.mean():.0f} %"
