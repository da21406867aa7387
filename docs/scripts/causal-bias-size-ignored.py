# scaled_dot_product_attention takes an upper left or square CausalBias of any size.
# To avoid it: Make the bias for each call: causal_lower_right(query.size(-2), key.size(-2)).
# To avoid it: Compare the mask's shape with the lengths before the call.

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch.nn, "attention"):
    print("not applicable: this release has no torch.nn.attention")
    sys.exit(2)

import torch.nn.attention.bias

torch.default_generator.manual_seed(1)
query = torch.randn((4, 4, 2))
key = torch.randn((4, 6, 2))
mask = torch.nn.attention.bias.causal_upper_left(3, 6)
print("expected an error that names the mask: the right shape is (4, 6)")

try:
    result = torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
