"""An attention function and an encoder layer of one's own, as docs/adopters.md measures them."""

import torch
from torch import nn
from torch.nn import functional as F


def attend(query, key, value, attn_mask=None, is_causal=False, scale=None):
    """Has the interface of F.scaled_dot_product_attention, without dropout and grouped heads. True keeps."""
    if is_causal and attn_mask is not None:
        raise ValueError("give attn_mask or is_causal")
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError("key and value differ in length")
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = scores + _as_float(attn_mask, scores)
    is_empty = (scores == float("-inf")).all(dim=-1, keepdim=True)  # no key is visible: the output is 0
    return scores.masked_fill(is_empty, 0.0).softmax(dim=-1).masked_fill(is_empty, 0.0) @ value


def _as_float(attn_mask, scores):
    if attn_mask.dtype not in (torch.bool, scores.dtype) or attn_mask.device != scores.device:
        raise ValueError("attn_mask has another dtype or device")
    try:
        attn_mask.expand(scores.shape)
    except RuntimeError:
        raise ValueError(f"attn_mask {tuple(attn_mask.shape)} does not broadcast to {tuple(scores.shape)}") from None
    if attn_mask.dtype != torch.bool:
        return attn_mask
    return torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(~attn_mask, float("-inf"))


class Layer(nn.Module):
    """Has the interface of nn.TransformerEncoderLayer, for batches and bool masks, with parameters of other names."""

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.0, batch_first=False):
        super().__init__()
        if dropout:
            raise NotImplementedError("no dropout")
        self.heads, self.batch_first = nhead, batch_first
        self.qkv, self.proj = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.up, self.down = nn.Linear(d_model, dim_feedforward), nn.Linear(dim_feedforward, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def load_state_dict(self, state: dict[str, torch.Tensor], strict: bool = True) -> None:
        """Take the parameters under the names of nn.TransformerEncoderLayer."""
        names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "proj.", "linear1.": "up.", "linear2.": "down."}
        for theirs, own in names.items():
            state = {name.replace(theirs, own): value for name, value in state.items()}
        super().load_state_dict(state, strict)

    def forward(self, src, src_mask=None, src_key_padding_mask=None):
        if src.dim() != 3 or any(
            mask is not None and mask.is_floating_point() for mask in (src_mask, src_key_padding_mask)
        ):
            raise NotImplementedError("batches and bool masks only")
        x = src if self.batch_first else src.transpose(0, 1)
        hidden = self._hidden(x, src_mask, src_key_padding_mask)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        x = self.norm1(x + self.proj(attend(query, key, value, ~hidden).transpose(1, 2).flatten(2)))
        x = self.norm2(x + self.down(F.relu(self.up(x))))
        return x if self.batch_first else x.transpose(0, 1)

    def _hidden(self, x, src_mask, src_key_padding_mask):
        """True where a key is hidden from a query: (N, 1 or heads, S, S)."""
        N, S, _ = x.shape
        right = {"src_mask": ((S, S), (N * self.heads, S, S)), "src_key_padding_mask": ((N, S),)}
        for name, mask in (("src_mask", src_mask), ("src_key_padding_mask", src_key_padding_mask)):
            if mask is not None and (
                mask.shape not in right[name] or mask.dtype != torch.bool or mask.device != x.device
            ):
                raise ValueError(f"{name} has the wrong shape, dtype or device")
        hidden = torch.zeros(N, 1, S, S, dtype=torch.bool, device=x.device)
        if src_key_padding_mask is not None:
            hidden = hidden | src_key_padding_mask[:, None, None, :]
        if src_mask is not None:
            hidden = hidden | (src_mask if src_mask.dim() == 2 else src_mask.unflatten(0, (N, -1)))
        return hidden
