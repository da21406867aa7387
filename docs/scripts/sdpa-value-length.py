# scaled_dot_product_attention takes key and value of different lengths if there is no mask (pytorch/pytorch#193728).
# To avoid it: Compare the lengths of key and value before the call.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

torch.default_generator.manual_seed(1)
query = torch.randn((2, 2, 4, 2))
key = torch.randn((2, 2, 6, 2))
value = torch.randn((2, 2, 7, 2))
print("expected an error the right shape is (2, 2, 6, 2)")

try:
    result = torch.nn.functional.scaled_dot_product_attention(query, key, value)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(0)

print("got no error")
sys.exit(1)
