"""Encoder, decoder and the whole Transformer, batch-first: "Attention Is All You Need", section 3.1.

Each class computes what the nn module of its name must; masks are passed on as the module documents it. What dropout
drops is random, so that a layer is given it as a function (section 5.4); by default it drops nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .attention import MultiHeadAttention, linear

_erf = np.vectorize(math.erf, otypes=[float])
_ROOT = math.sqrt(2 / math.pi)


def relu(x):
    """max(x, 0); of a complex number, by the sign of its real part."""
    return np.where(x.real <= 0, 0, x)  # NaN stays NaN


def gelu(x):
    """x * Phi(x) with the exact normal distribution Phi; of a complex number, its first-order expansion."""
    normal = 0.5 * (1 + _erf(x.real / math.sqrt(2))).astype(x.real.dtype)
    value = x.real * normal
    if not np.iscomplexobj(x):
        return value
    slope = normal + x.real * np.exp(-(x.real**2) / 2) / math.sqrt(2 * math.pi)
    return value + 1j * slope * x.imag


def gelu_tanh(x, root=_ROOT):
    """The approximation of GELU by a hyperbolic tangent, off by up to 5e-4: torch.nn.GELU(approximate="tanh")."""
    return 0.5 * x * (1 + np.tanh(root * (x + 0.044715 * x * x * x)))


def silu(x):
    """x times the logistic function of x."""
    return 0.5 * x * (1 + np.tanh(0.5 * x))


def kept(x):
    """All of x: a dropout that drops nothing."""
    return x


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis; a bias may be None."""

    weight: np.ndarray
    bias: np.ndarray | None
    eps: float

    def __call__(self, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        y = centred / np.sqrt(variance + self.eps) * self.weight
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class FeedForward:
    """linear, activation, dropout, linear."""

    weight1: np.ndarray
    bias1: np.ndarray | None
    weight2: np.ndarray
    bias2: np.ndarray | None
    activation: Callable

    def __call__(self, x, dropout=kept):
        features = dropout(self.activation(linear(x, self.weight1, self.bias1)))
        return linear(features, self.weight2, self.bias2)


@dataclass(frozen=True)
class EncoderLayer:
    """Self-attention and feed-forward, each with a residual; `norm_first` normalises before instead of after.

    dropout: what becomes of what each of them adds, and of the features of the feed-forward, in the order of the
    computation; that of the attention's weights is in its kernel.
    """

    self_attn: MultiHeadAttention
    feed_forward: FeedForward
    norm1: LayerNorm
    norm2: LayerNorm
    norm_first: bool = False
    dropout: Callable = kept

    def __call__(self, src, src_mask=None, src_key_padding_mask=None):
        """src (N, S, E), src_mask (S, S) or (N * H, S, S), src_key_padding_mask (N, S) -> (N, S, E)."""

        def attention(x):
            return self.self_attn(x, x, x, src_mask, src_key_padding_mask)[0]

        x = _residual(self, src, attention, self.norm1)
        return _residual(self, x, _feed_forward(self), self.norm2)


@dataclass(frozen=True)
class DecoderLayer:
    """Self-attention, attention to the memory and feed-forward, each with a residual; all else as in EncoderLayer."""

    self_attn: MultiHeadAttention
    multihead_attn: MultiHeadAttention
    feed_forward: FeedForward
    norm1: LayerNorm
    norm2: LayerNorm
    norm3: LayerNorm
    norm_first: bool = False
    dropout: Callable = kept

    def __call__(
        self,
        tgt,
        memory,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
    ):
        """tgt (N, T, E), memory (N, S, E), tgt_mask (T, T), memory_mask (T, S), both also per head -> (N, T, E)."""

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
    """A stack of encoder layers that all get the same masks, and a final norm or None."""

    layers: tuple[EncoderLayer, ...]
    norm: LayerNorm | None = None

    def __call__(self, src, src_mask=None, src_key_padding_mask=None):
        x = src
        for layer in self.layers:
            x = layer(x, src_mask, src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


@dataclass(frozen=True)
class Decoder:
    """A stack of decoder layers that all get the same memory and masks, and a final norm or None."""

    layers: tuple[DecoderLayer, ...]
    norm: LayerNorm | None = None

    def __call__(self, tgt, memory, **masks):
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, **masks)
        return x if self.norm is None else self.norm(x)


@dataclass(frozen=True)
class Transformer:
    """The encoder's output is the decoder's memory."""

    encoder: Encoder
    decoder: Decoder

    def __call__(self, src, tgt, src_mask=None, src_key_padding_mask=None, **masks):
        """src (N, S, E), tgt (N, T, E), all masks as in Encoder and DecoderLayer -> (N, T, E)."""
        return self.decoder(tgt, self.encoder(src, src_mask, src_key_padding_mask), **masks)
