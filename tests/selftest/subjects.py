"""Right and wrong implementations of torch's interfaces, for test_adopted.py."""

import torch
from torch import nn
from torch.nn import functional

from . import own


class Subclass(nn.MultiheadAttention):
    """Conforms: inherits everything."""


class BlindToPadding(nn.MultiheadAttention):
    """Wrong: ignores the padding of every sample but the first."""

    def forward(self, query, key, value, key_padding_mask=None, **options):
        if key_padding_mask is not None and key_padding_mask.dim() == 2:
            key_padding_mask = key_padding_mask.clone()
            key_padding_mask[1:] = 0
        return super().forward(query, key, value, key_padding_mask=key_padding_mask, **options)


class Detached(nn.MultiheadAttention):
    """Uses a new parameter instead of v_proj_weight if `vdim` is given; the inherited parameter still exists."""

    def __init__(self, embed_dim, num_heads, kdim=None, vdim=None):
        super().__init__(embed_dim, num_heads, kdim=kdim, vdim=vdim)
        self.to_v = None if vdim is None else nn.Parameter(self.v_proj_weight.detach().clone())

    def forward(self, *inputs, **options):
        inherited, self.v_proj_weight = self.v_proj_weight, self.v_proj_weight if self.to_v is None else self.to_v
        try:
            return super().forward(*inputs, **options)
        finally:
            self.v_proj_weight = inherited


class WithoutOutputBias(nn.MultiheadAttention):
    """Wrong: ignores the bias of the output projection, and no other parameter replaces it."""

    def forward(self, *inputs, **options):
        output, weights = super().forward(*inputs, **options)
        return output - self.out_proj.bias, weights


class Deaf(nn.Module):
    """Unusable: load_state_dict loads nothing."""

    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.to_out = nn.Linear(embed_dim, embed_dim)

    def load_state_dict(self, state, strict=True):
        pass

    def forward(self, query, key, value):
        return self.to_out(value), None


class Strict(Deaf):
    """Unusable: load_state_dict takes its own parameter names only."""

    def load_state_dict(self, state, strict=True):
        return nn.Module.load_state_dict(self, state, strict)


class Port(nn.Module):
    """Conforms: an independent implementation with linear layers of other names, which takes few of the arguments."""

    def __init__(self, embed_dim, num_heads, batch_first=False):
        super().__init__()
        self.num_heads, self.batch_first = num_heads, batch_first
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(embed_dim, embed_dim) for _ in range(4))

    def load_state_dict(self, state, strict=True):
        layers = (self.to_q, self.to_k, self.to_v)
        parts = zip(layers, state["in_proj_weight"].chunk(3), state["in_proj_bias"].chunk(3), strict=True)
        with torch.no_grad():
            for layer, weight, bias in (*parts, (self.to_out, state["out_proj.weight"], state["out_proj.bias"])):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, query, key, value, attn_mask=None):
        if query.dim() == 2:
            raise NotImplementedError("only batches")
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        N, L, E = query.shape
        q, k, v = (
            layer(x).view(*x.shape[:2], self.num_heads, E // self.num_heads).transpose(1, 2)
            for layer, x in ((self.to_q, query), (self.to_k, key), (self.to_v, value))
        )
        weights = self.weights(q @ k.transpose(-1, -2) / (E // self.num_heads) ** 0.5, attn_mask)
        output = self.to_out((weights @ v).transpose(1, 2).reshape(N, L, E))
        return (output if self.batch_first else output.transpose(0, 1)), weights.mean(1)

    def weights(self, scores, mask):
        """The softmax; the weights of a fully masked query are 0."""
        if mask is None:
            return functional.softmax(scores, dim=-1)
        rows, keys = scores.shape[-2:]
        if mask.shape not in ((rows, keys), (scores.shape[0] * self.num_heads, rows, keys)):
            raise ValueError(f"attn_mask has the wrong shape {tuple(mask.shape)}")
        if mask.dtype not in (torch.bool, scores.dtype):
            raise TypeError(f"attn_mask is {mask.dtype}")
        if mask.device != scores.device:
            raise ValueError(f"attn_mask is on {mask.device}")
        mask = mask if mask.dim() == 2 else mask.view(scores.shape)
        scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        is_empty = (scores == -torch.inf).all(-1, keepdim=True)
        return functional.softmax(scores.masked_fill(is_empty, 0.0), dim=-1).masked_fill(is_empty, 0.0)


class TransposedPort(Port):
    """Wrong: exchanges rows and columns of a 2-D mask."""

    def weights(self, scores, mask):
        return super().weights(scores, mask.T if mask is not None and mask.dim() == 2 else mask)


def decliner(embed_dim, num_heads):
    """Declines every call."""

    class Declining(nn.MultiheadAttention):
        def forward(self, *_, **__):
            raise NotImplementedError

    return Declining(embed_dim, num_heads)


def refuser(embed_dim, num_heads):
    """Raises when it is created."""
    raise RuntimeError("no heads\nat all")


# ---- in place of scaled_dot_product_attention and nn.TransformerEncoderLayer -----------------------------------------


def attend_inverted(query, key, value, attn_mask=None, is_causal=False, scale=None):
    """Wrong: takes True of a bool mask for hidden."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = ~attn_mask
    return own.attend(query, key, value, attn_mask, is_causal, scale)


class LayerBlindToPadding(own.Layer):
    """Wrong: ignores padding."""

    def forward(self, src, src_mask=None, src_key_padding_mask=None):
        super().forward(src, src_mask, src_key_padding_mask)  # refuses wrong masks
        return super().forward(src, src_mask)
