# The backward pass of flex_attention raises if there are no samples or no keys.
# To avoid it: No remedy: none: leave empty batches out.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.zeros((0, 1, 1, 2), dtype=torch.float64)
key = torch.zeros((0, 1, 1, 2), dtype=torch.float64)
value = torch.zeros((0, 1, 1, 2), dtype=torch.float64)

query.requires_grad_()
key.requires_grad_()
value.requires_grad_()

try:
    output = flex_attention(query, key, value)
    if output.requires_grad:
        output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
