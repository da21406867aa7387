# flex_attention returns None for the log-sum-exp of no queries.
# To avoid it: No remedy: none: test for None.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.zeros((1, 1, 0, 1), dtype=torch.float64)
key = torch.tensor([[[[0.126]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.132]]]], dtype=torch.float64)

with torch.no_grad():
    output, lse = flex_attention(query, key, value, return_lse=True)

expected = torch.zeros((1, 1, 0, 1), dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=0.0)

expected_lse = torch.zeros((1, 1, 0), dtype=torch.float64)
print("expected lse", expected_lse)
print("got lse", lse)
wrong = wrong or lse is None or lse.shape != expected_lse.shape
wrong = wrong or not torch.allclose(lse, expected_lse, rtol=0, atol=0.0)

sys.exit(bool(wrong))
