"""Attention as in "Attention Is All You Need", sections 3.2.1 and 3.2.2, with masks.

Everything works in the dtype of its arrays: float64 by default, float32 to see how a case rounds, complex128
to differentiate (see derivative.py). Clause numbers refer to README.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import masks


def attend(query, key, value, bias, scale):
    """softmax(scale * query @ key^T + bias) @ value, and the softmax, over keys that are not hidden.

    query (..., L, D), key (..., S, D), value (..., S, Dv), bias broadcastable to (..., L, S) or None.
    A hidden key is left out rather than multiplied by 0 (clause 5), and a query that sees no key gets
    zero weights and a zero context (clause 4).
    """
    scores = scale * (query @ np.swapaxes(key, -1, -2))
    if bias is None:
        bias = np.zeros((1, 1), scores.dtype)
    hidden = np.broadcast_to(masks.hidden(bias), scores.shape)
    scores = np.where(hidden, 0, added(scores, bias))
    highest = np.max(scores.real, axis=-1, keepdims=True, initial=-np.inf, where=~hidden)
    powers = np.exp(scores - np.where(np.isfinite(highest), highest, 0), where=~hidden, out=np.zeros_like(scores))
    total = powers.sum(axis=-1, keepdims=True)
    weights = powers / np.where(total == 0, 1, total)
    return _context(weights, value, hidden), weights


def added(scores, bias):
    """scores + bias where the bias does not hide, rounded as the bias's dtype rounds numbers of its size (clause 1).

    Beside -1e9 a score in float32 is lost, as it is beside finfo.min. A derivative passes through the rounding.
    """
    bias = np.where(masks.hidden(bias), 0, bias)
    sums = scores + bias
    dtype = np.result_type(bias.real.dtype, np.float32)  # sums in lower precisions are kept in float32
    absorbs = np.abs(bias.real) >= 2 / np.finfo(dtype).eps  # neighbouring numbers differ by 2 and more
    if sums.real.dtype == dtype or not absorbs.any():
        return sums
    return np.where(absorbs, sums + (sums.real.astype(dtype) - sums.real), sums)


def _context(weights, value, hidden):
    """weights @ value, where a hidden value is left out even if it is not finite, though 0 * inf is NaN."""
    finite = np.isfinite(value)
    if finite.all():
        return weights @ value
    seen = ~hidden[..., None] & ~finite[..., None, :, :]
    return np.where(seen.any(axis=-2), weights @ value, weights @ np.where(finite, value, 0))


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False, kernel=attend
):
    """F.scaled_dot_product_attention without dropout: (..., H, L, D) x (..., S, D) x (..., S, Dv) -> (..., L, Dv).

    A bool `attn_mask` keeps where True. `is_causal` hides the future and excludes a mask. With `enable_gqa`
    each key and value head serves a run of neighbouring query heads.
    """
    L, D = query.shape[-2:]
    S = key.shape[-2]
    if is_causal:
        if attn_mask is not None:
            raise ValueError("is_causal excludes attn_mask")
        attn_mask = ~masks.causal(L, S)
    bias = None if attn_mask is None else masks.as_bias(attn_mask, query.dtype, true_hides=False)
    if enable_gqa:
        group = query.shape[-3] // key.shape[-3]
        key, value = np.repeat(key, group, axis=-3), np.repeat(value, group, axis=-3)
    context, _ = kernel(query, key, value, bias, 1 / np.sqrt(D).item() if scale is None else scale)
    return context


def linear(x, weight, bias=None):
    """x (..., in) @ weight (out, in)^T + bias (out,)."""
    y = x @ weight.T
    return y if bias is None else y + bias


@dataclass(frozen=True)
class MultiHeadAttention:
    """nn.MultiheadAttention and F.multi_head_attention_forward on batch-first arrays.

    q_weight (E, E), k_weight (E, kdim), v_weight (E, vdim), out_weight (E, E) and their biases (E,) or None;
    bias_k and bias_v (E,) or None. `kernel` computes one attention, as `attend` does.
    """

    num_heads: int
    q_weight: np.ndarray
    k_weight: np.ndarray
    v_weight: np.ndarray
    out_weight: np.ndarray
    q_bias: np.ndarray | None = None
    k_bias: np.ndarray | None = None
    v_bias: np.ndarray | None = None
    out_bias: np.ndarray | None = None
    bias_k: np.ndarray | None = None
    bias_v: np.ndarray | None = None
    add_zero_attn: bool = False
    kernel: Callable = attend
    rounded: Callable | None = None  # of the sum of two masks: see masks.merge

    def __call__(self, query, key, value, attn_mask=None, key_padding_mask=None, static_k=None, static_v=None):
        """query (N, L, E), key (N, S, kdim), value (N, S, vdim) -> output (N, L, E), weights (N, H, L, S').

        attn_mask (L, S) or (N * H, L, S), key_padding_mask (N, S): bool, True hides, or float, added to the
        score (clauses 1, 2). S' counts the keys that bias_k and add_zero_attn append, which no mask hides
        (clause 7). static_k and static_v (N * H, S, D) replace the projected keys and values.
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
        context, weights = self.kernel(q, k, v, bias, 1 / np.sqrt(q.shape[-1]).item())
        return linear(self._join(context), self.out_weight, self.out_bias), weights

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
    """One more element (D,) at the end of every sequence (..., S, D)."""
    more = np.broadcast_to(element, (*sequence.shape[:-2], 1, sequence.shape[-1]))
    return np.concatenate([sequence, more], axis=-2)
