# NaN in a mask of one layer spreads to queries from which the next layer hides it.
# To avoid it: Mask with torch.nan_to_num(mask), which puts 0 in the place of NaN (if no query is fully masked; cost:
#     other numbers, since the masks change).

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerDecoderLayer(
    d_model=4, nhead=1, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerDecoder(layer, 2)
module.eval()

memory = torch.tensor([[[0.189, -0.523, -0.413, -2.441]]], dtype=torch.float64)
tgt = torch.tensor([[[1.8, 1.144, -0.325, 0.774], [0.281, -0.554, 0.978, -0.311]]], dtype=torch.float64)

tgt_mask = torch.tensor([[0.0, 0.0], [nan, 0.0]], dtype=torch.float64)
tgt_key_padding_mask = torch.tensor([[False, True]])

memory.requires_grad_()
tgt.requires_grad_()
tgt_mask.requires_grad_()

module(tgt, memory, tgt_mask=tgt_mask, tgt_key_padding_mask=tgt_key_padding_mask)

print("expected no error, got none")
