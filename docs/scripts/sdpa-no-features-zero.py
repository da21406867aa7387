# scaled_dot_product_attention returns zeros if queries have no features (pytorch/pytorch#184330).
# To avoid it: Use PyTorch 2.13, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if "scale=" not in torch.nn.functional.scaled_dot_product_attention.__doc__:
    print("not applicable: this release has no scale in torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.zeros((1, 1, 1, 0), dtype=torch.float64)
key = torch.zeros((1, 1, 1, 0), dtype=torch.float64)
value = torch.tensor([[[[0.126]]]], dtype=torch.float64)

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)

expected = torch.tensor([[[[0.126]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=2e-15)

sys.exit(bool(wrong))
