"""The adapter of docs/adopters.md: a fused attention, and the class that gives it nn.MultiheadAttention's interface."""

import torch
import torch.nn.functional as F
from torch import nn


class FusedAttention(nn.Module):
    """The module to be measured: self-attention with one projection for query, key and value. keep: True keeps."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """x (N, S, dim); keep broadcasts to (N, heads, S, S)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        context = F.scaled_dot_product_attention(query, key, value, keep)
        return self.proj(context.transpose(1, 2).flatten(2))


class Adapter(nn.Module):
    """FusedAttention, called as nn.MultiheadAttention is. Calls that it cannot make raise NotImplementedError."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, batch_first: bool = False) -> None:
        super().__init__()
        if dropout:
            raise NotImplementedError("no dropout")
        self.batch_first, self.attention = batch_first, FusedAttention(embed_dim, num_heads)

    def load_state_dict(self, state: dict[str, torch.Tensor], strict: bool = True) -> None:
        """Take the parameters under the names of nn.MultiheadAttention."""
        names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
        names |= {"out_proj.weight": "proj.weight", "out_proj.bias": "proj.bias"}
        self.attention.load_state_dict({names[name]: value for name, value in state.items()}, strict)

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None, need_weights=True):
        if query is not key or key is not value:
            raise NotImplementedError("self-attention only")
        if (
            query.dim() != 3
            or need_weights
            or any(mask is not None and mask.is_floating_point() for mask in (key_padding_mask, attn_mask))
        ):
            raise NotImplementedError("batches, bool masks and no weights only")
        x = query if self.batch_first else query.transpose(0, 1)
        N, S, _ = x.shape
        hidden = torch.zeros(N, 1, S, S, dtype=torch.bool, device=x.device)
        if key_padding_mask is not None:
            hidden = hidden | key_padding_mask[:, None, None, :]
        if attn_mask is not None:
            hidden = hidden | (attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (N, -1)))
        output = self.attention(x, ~hidden)
        return (output if self.batch_first else output.transpose(0, 1)), None
