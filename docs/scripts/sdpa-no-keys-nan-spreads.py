# Without keys, one NaN in a query makes all outputs of the batch NaN.
# To avoid it: Give query.nan_to_num() as the query.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[nan]]]], dtype=torch.float64)
key = torch.zeros((1, 1, 0, 1), dtype=torch.float64)
value = torch.zeros((1, 1, 0, 1), dtype=torch.float64)

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value)

expected = torch.tensor([[[[0.0]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=0.0, equal_nan=True)
wrong = wrong or output[expected == 0].any()

sys.exit(bool(wrong))
