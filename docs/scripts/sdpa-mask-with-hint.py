# scaled_dot_product_attention takes attn_mask together with is_causal=True (pytorch/pytorch#187801).
# To avoid it: Put the causal mask into attn_mask, and leave out is_causal.

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

torch.default_generator.manual_seed(1)
query = torch.randn((2, 2, 4, 2))
key = torch.randn((2, 2, 6, 2))
mask = torch.arange(24).reshape((4, 6)) % 5 != 2
print("expected an error that names the mask: the right shape is (4, 6)")

try:
    result = torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask, is_causal=True)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
