# nn.MultiheadAttention refuses a mask given with is_causal=True.
# To avoid it: Leave out the hint.
# To avoid it: Use PyTorch 2.0.1, or a later release.

import inspect
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if "is_causal" not in inspect.signature(torch.nn.MultiheadAttention.forward).parameters:
    print("not applicable: this release has no is_causal in torch.nn.MultiheadAttention.forward")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
module.eval()

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[-0.132]]], dtype=torch.float64)
value = torch.tensor([[[0.64]]], dtype=torch.float64)

attn_mask = torch.tensor([[False]])

try:
    with torch.no_grad():
        module(query, key, value, attn_mask=attn_mask, is_causal=True)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
