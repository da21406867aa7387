# scaled_dot_product_attention crashes if there are no heads (pytorch/pytorch#141218).
# To avoid it: Use PyTorch 2.12, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.zeros((1, 0, 1, 1), dtype=torch.float64)
key = torch.zeros((1, 0, 1, 1), dtype=torch.float64)
value = torch.zeros((1, 0, 1, 1), dtype=torch.float64)

try:
    with torch.no_grad():
        torch.nn.functional.scaled_dot_product_attention(query, key, value)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
