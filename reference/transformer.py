"""The layers and stacks of the Transformer, batch-first: "Attention Is All You Need", section 3.1.

Each class specifies the nn module of the same name, and takes the masks that this module documents. Dropout (section
5.4) is random, so a layer takes it as a function; the default drops nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .attention import MultiHeadAttention, linear

_erf = np.vectorize(math.erf, otypes=[float])
_ROOT = math.sqrt(2 / math.pi)


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0). The sign of a complex number is the sign of its real part."""
    return np.where(x.real <= 0, 0, x)  # NaN stays NaN


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), with the exact normal distribution Phi. Complex numbers: expanded to first order in Im x."""
    normal = 0.5 * (1 + _erf(x.real / math.sqrt(2))).astype(x.real.dtype)
    value = x.real * normal
    if not np.iscomplexobj(x):
        return value
    slope = normal + x.real * np.exp(-(x.real**2) / 2) / math.sqrt(2 * math.pi)
    return value + 1j * slope * x.imag


def gelu_tanh(x: np.ndarray, root: float = _ROOT) -> np.ndarray:
    """torch.nn.GELU(approximate="tanh"), which differs from GELU by up to 5e-4. root: sqrt(2 / pi)."""
    return 0.5 * x * (1 + np.tanh(root * (x + 0.044715 * x * x * x)))


def silu(x: np.ndarray) -> np.ndarray:
    """x times the logistic function of x."""
    return 0.5 * x * (1 + np.tanh(0.5 * x))


def kept(x: np.ndarray) -> np.ndarray:
    """x itself: dropout that drops nothing."""
    return x


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axis."""

    weight: np.ndarray  # (E,)
    bias: np.ndarray | None  # (E,)
    eps: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., E) -> (..., E)"""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        y = centred / np.sqrt(variance + self.eps) * self.weight
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward block of a layer: linear, activation, dropout, linear."""

    weight1: np.ndarray  # (F, E), F = dim_feedforward
    bias1: np.ndarray | None  # (F,)
    weight2: np.ndarray  # (E, F)
    bias2: np.ndarray | None  # (E,)
    activation: Callable  # array -> array
    linear: Callable = linear  # takes and returns the arrays that `linear` does

    def __call__(self, x: np.ndarray, dropout: Callable[[np.ndarray], np.ndarray] = kept) -> np.ndarray:
        """(..., E) -> (..., E)"""
        features = dropout(self.activation(self.linear(x, self.weight1, self.bias1)))
        return self.linear(features, self.weight2, self.bias2)


@dataclass(frozen=True)
class EncoderLayer:
    """Self-attention and feed-forward, each with a residual connection."""

    self_attn: MultiHeadAttention
    feed_forward: FeedForward
    norm1: LayerNorm
    norm2: LayerNorm
    norm_first: bool = False  # normalise the input of each block, not the sum after it
    # array -> array, applied to the features of the feed-forward and to the result of each block, in the order of the
    # computation. Dropout of the attention weights belongs to the kernel of self_attn.
    dropout: Callable = kept

    def __call__(
        self, src: np.ndarray, src_mask: np.ndarray | None = None, src_key_padding_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """src (N, S, E), src_mask (S, S) or (N * H, S, S), src_key_padding_mask (N, S) -> (N, S, E)."""

        def attention(x):
            return self.self_attn(x, x, x, src_mask, src_key_padding_mask)[0]

        x = _residual(self, src, attention, self.norm1)
        return _residual(self, x, _feed_forward(self), self.norm2)


@dataclass(frozen=True)
class DecoderLayer:
    """Self-attention, attention to the memory and feed-forward, each with a residual connection."""

    self_attn: MultiHeadAttention
    multihead_attn: MultiHeadAttention  # attention to the memory
    feed_forward: FeedForward
    norm1: LayerNorm
    norm2: LayerNorm
    norm3: LayerNorm
    norm_first: bool = False  # see EncoderLayer
    dropout: Callable = kept  # see EncoderLayer

    def __call__(
        self,
        tgt: np.ndarray,
        memory: np.ndarray,
        tgt_mask: np.ndarray | None = None,
        memory_mask: np.ndarray | None = None,
        tgt_key_padding_mask: np.ndarray | None = None,
        memory_key_padding_mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """tgt (N, T, E), memory (N, S, E) -> (N, T, E).

        tgt_mask (T, T) or (N * H, T, T), memory_mask (T, S) or (N * H, T, S), tgt_key_padding_mask (N, T),
        memory_key_padding_mask (N, S).
        """

        def attention(x):
            return self.self_attn(x, x, x, tgt_mask, tgt_key_padding_mask)[0]

        def attention_to_memory(x):
            return self.multihead_attn(x, memory, memory, memory_mask, memory_key_padding_mask)[0]

        x = _residual(self, tgt, attention, self.norm1)
        x = _residual(self, x, attention_to_memory, self.norm2)
        return _residual(self, x, _feed_forward(self), self.norm3)


def _feed_forward(layer):
    return lambda x: layer.feed_forward(x, layer.dropout)


def _residual(layer, x, block, norm):
    return x + layer.dropout(block(norm(x))) if layer.norm_first else norm(x + layer.dropout(block(x)))


@dataclass(frozen=True)
class Encoder:
    """A stack of encoder layers: each layer gets the same masks."""

    layers: tuple[EncoderLayer, ...]
    norm: LayerNorm | None = None  # after the last layer

    def __call__(
        self, src: np.ndarray, src_mask: np.ndarray | None = None, src_key_padding_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """src (N, S, E), masks as in EncoderLayer -> (N, S, E)."""
        x = src
        for layer in self.layers:
            x = layer(x, src_mask, src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


@dataclass(frozen=True)
class Decoder:
    """A stack of decoder layers: each layer gets the same memory and the same masks."""

    layers: tuple[DecoderLayer, ...]
    norm: LayerNorm | None = None  # after the last layer

    def __call__(self, tgt: np.ndarray, memory: np.ndarray, **masks: np.ndarray | None) -> np.ndarray:
        """tgt (N, T, E), memory (N, S, E), masks as in DecoderLayer -> (N, T, E)."""
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, **masks)
        return x if self.norm is None else self.norm(x)


@dataclass(frozen=True)
class Transformer:
    """An encoder and a decoder: the output of the encoder is the memory of the decoder."""

    encoder: Encoder
    decoder: Decoder

    def __call__(
        self,
        src: np.ndarray,
        tgt: np.ndarray,
        src_mask: np.ndarray | None = None,
        src_key_padding_mask: np.ndarray | None = None,
        **masks: np.ndarray | None,
    ) -> np.ndarray:
        """src (N, S, E), tgt (N, T, E), masks as in EncoderLayer and DecoderLayer -> (N, T, E)."""
        return self.decoder(tgt, self.encoder(src, src_mask, src_key_padding_mask), **masks)
