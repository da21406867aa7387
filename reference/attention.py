"""Masked attention, as in "Attention Is All You Need", sections 3.2.1 and 3.2.2.

Each function computes in the dtype of its arrays: float64 by default, float32 to measure the rounding errors of a
case, complex128 for derivatives (see derivative.py). Clause numbers refer to README.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import masks
from .derivative import product


def attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The context softmax(scale * query @ key^T + bias) @ value, and the weights, which are the softmax.

    query (..., L, D), key (..., S, D), value (..., S, Dv), bias broadcastable to (..., L, S) or None
    -> context (..., L, Dv), weights (..., L, S).
    Hidden keys are left out of the sums, not multiplied by 0 (clause 5). A fully masked query gets zero weights and a
    zero context (clause 4).
    """
    scores = scale * (query @ np.swapaxes(key, -1, -2))
    if bias is None:
        bias = np.zeros((1, 1), scores.dtype)
    hidden = np.broadcast_to(masks.hidden(bias), scores.shape)
    powers, total, _ = exponentials(np.where(hidden, 0, added(scores, bias)), hidden)
    weights = powers / np.where(total == 0, 1, total)
    return context(weights, value, hidden), weights


def exponentials(scores: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(score - highest) of each visible key, 0 for hidden ones; their sums; and the highest scores.

    scores, hidden (..., L, S) -> (..., L, S), (..., L, 1), (..., L, 1). A fully masked query gets a sum of 0 and a
    highest score of -inf.
    """
    highest = np.max(scores.real, axis=-1, keepdims=True, initial=-np.inf, where=~hidden)
    powers = np.exp(scores - np.where(np.isfinite(highest), highest, 0), where=~hidden, out=np.zeros_like(scores))
    return powers, powers.sum(axis=-1, keepdims=True), highest


def added(scores: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """scores + bias, rounded in the dtype of the bias (clause 1); a hidden position keeps its score.

    scores (..., L, S), bias broadcastable to that shape. float32 has no digits for a score beside -1e9 or finfo.min.
    Derivatives pass through the rounding unchanged.
    """
    bias = np.where(masks.hidden(bias), 0, bias)
    sums = scores + bias
    dtype = np.result_type(bias.real.dtype, np.float32)  # sums of lower precisions are kept in float32
    absorbs = np.abs(bias.real) >= 2 / np.finfo(dtype).eps  # neighbouring numbers differ by 2 or more
    if sums.real.dtype == dtype or not absorbs.any():
        return sums
    return np.where(absorbs, sums + (sums.real.astype(dtype) - sums.real), sums)


def context(weights: np.ndarray, value: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """weights @ value without the hidden values: 0 * inf and 0 * NaN would be NaN.

    weights, hidden (..., L, S), value (..., S, Dv) -> (..., L, Dv).
    """
    finite = np.isfinite(value)
    if finite.all():
        return weights @ value
    seen = ~hidden[..., None] & ~finite[..., None, :, :]
    return np.where(seen.any(axis=-2), weights @ value, weights @ np.where(finite, value, 0))


def scaled_dot_product_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    attn_mask: np.ndarray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    kernel: Callable[..., tuple[np.ndarray, np.ndarray]] = attend,
) -> np.ndarray:
    """F.scaled_dot_product_attention without dropout (doc, SDPA).

    query (..., L, D), key (..., S, D), value (..., S, Dv) -> context (..., L, Dv).
    attn_mask: broadcastable to (..., L, S); bool keeps the key if True, float is added to the score (clause 2).
    is_causal: hides key j from query i if j > i (clause 6). Raises ValueError beside an attn_mask.
    scale: 1 / sqrt(D) if None.
    enable_gqa: in (..., H, L, D), key and value may have fewer heads; each serves a run of neighbouring query heads.
    kernel: computes one attention; takes and returns the values that `attend` does.
    """
    L, D = query.shape[-2:]
    S = key.shape[-2]
    if is_causal:
        if attn_mask is not None:
            raise ValueError("is_causal excludes attn_mask")
        attn_mask = ~masks.causal(L, S)
    bias = None if attn_mask is None else masks.as_bias(attn_mask, query.dtype, true_hides=False)
    if enable_gqa:
        key, value = (for_each_query_head(x, query) for x in (key, value))
    return kernel(query, key, value, bias, 1 / np.sqrt(D).item() if scale is None else scale)[0]


def for_each_query_head(x: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Key or value (..., few heads, S, D) with as many heads as the query (..., H, L, D): a run of them shares one."""
    return np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x @ weight^T + bias: x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    y = product(x, weight.T)
    return y if bias is None else y + bias


@dataclass(frozen=True)
class MultiHeadAttention:
    """nn.MultiheadAttention and F.multi_head_attention_forward without dropout, on batch-first arrays (doc, MHA)."""

    num_heads: int
    q_weight: np.ndarray  # (E, E)
    k_weight: np.ndarray  # (E, kdim)
    v_weight: np.ndarray  # (E, vdim)
    out_weight: np.ndarray  # (E, E)
    q_bias: np.ndarray | None = None  # (E,)
    k_bias: np.ndarray | None = None  # (E,)
    v_bias: np.ndarray | None = None  # (E,)
    out_bias: np.ndarray | None = None  # (E,)
    bias_k: np.ndarray | None = None  # (E,), the key that add_bias_kv appends
    bias_v: np.ndarray | None = None  # (E,), the value that add_bias_kv appends
    add_zero_attn: bool = False  # append a key and a value of zeros
    kernel: Callable = attend  # computes one attention; takes and returns the values that `attend` does
    rounded: Callable | None = None  # rounds the sum of both masks: see masks.merge

    def __call__(
        self,
        query: np.ndarray,
        key: np.ndarray,
        value: np.ndarray,
        attn_mask: np.ndarray | None = None,
        key_padding_mask: np.ndarray | None = None,
        static_k: np.ndarray | None = None,
        static_v: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """query (N, L, E), key (N, S, kdim), value (N, S, vdim) -> output (N, L, E), weights (N, H, L, S').

        attn_mask (L, S) or (N * H, L, S), key_padding_mask (N, S): bool (True hides) or float (added to the score;
        clauses 1, 2). S' is S plus the keys that bias_k and add_zero_attn append; no mask hides these (clause 7).
        static_k and static_v (N * H, S, D): replace the projected keys and values.
        """
        q = self._split(linear(query, self.q_weight, self.q_bias))
        k, v = linear(key, self.k_weight, self.k_bias), linear(value, self.v_weight, self.v_bias)
        if self.bias_k is not None:
            k, v = _append(k, self.bias_k), _append(v, self.bias_v)
        k = self._split(k) if static_k is None else static_k.reshape(*q.shape[:2], *static_k.shape[1:])
        v = self._split(v) if static_v is None else static_v.reshape(*q.shape[:2], *static_v.shape[1:])
        if self.add_zero_attn:
            k, v = (_append(x, np.zeros(x.shape[-1], x.dtype)) for x in (k, v))
        bias = self._bias(attn_mask, key_padding_mask, masks.dtype_of((attn_mask, key_padding_mask), query.real.dtype))
        attended, weights = self.kernel(q, k, v, bias, 1 / np.sqrt(q.shape[-1]).item())
        return linear(self._join(attended), self.out_weight, self.out_bias), weights

    def _bias(self, attn_mask, key_padding_mask, dtype):
        if attn_mask is not None:
            attn_mask = masks.over_heads(masks.as_bias(attn_mask, dtype), self.num_heads)
        if key_padding_mask is not None:
            key_padding_mask = masks.over_queries(masks.as_bias(key_padding_mask, dtype))
        appended = (self.bias_k is not None) + self.add_zero_attn
        return masks.show_more_keys(masks.merge(attn_mask, key_padding_mask, rounded=self.rounded), appended)

    def _split(self, x):
        """(N, L, E) -> (N, H, L, D)"""
        N, L, E = x.shape
        return x.reshape(N, L, self.num_heads, E // self.num_heads).transpose(0, 2, 1, 3)

    def _join(self, x):
        """(N, H, L, D) -> (N, L, E)"""
        N, H, L, D = x.shape
        return x.transpose(0, 2, 1, 3).reshape(N, L, H * D)


def _append(sequence, element):
    """Append an element (D,) to every sequence: (..., S, D) -> (..., S + 1, D)."""
    more = np.broadcast_to(element, (*sequence.shape[:-2], 1, sequence.shape[-1]))
    return np.concatenate([sequence, more], axis=-2)
