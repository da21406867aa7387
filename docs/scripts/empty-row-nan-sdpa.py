# A fully masked query gives NaN in scaled_dot_product_attention (pytorch/pytorch#41508).
# To avoid it: Use PyTorch 2.5, or a later release.
# To avoid it: Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if
#     the mask is float (cost: other numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126]]]], dtype=torch.float64)
key = torch.tensor([[[[-0.132]]]], dtype=torch.float64)
value = torch.tensor([[[[0.64]]]], dtype=torch.float64)

attn_mask = torch.tensor([[False]])

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[0.0]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=0.0)
wrong = wrong or output[expected == 0].any()

sys.exit(bool(wrong))
