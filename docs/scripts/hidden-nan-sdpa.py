# NaN in a hidden position makes every query NaN in scaled_dot_product_attention (pytorch/pytorch#101967).
# To avoid it: Fill hidden positions with numbers, such as 0, before the call.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126]]]], dtype=torch.float64)
key = torch.tensor([[[[nan], [0.64]]]], dtype=torch.float64)
value = torch.tensor([[[[nan], [-0.536]]]], dtype=torch.float64)

attn_mask = torch.tensor([[False, True]])

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[-0.536]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=8e-15, equal_nan=True)

sys.exit(bool(wrong))
