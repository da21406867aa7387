# scaled_dot_product_attention refuses a mask that does not broadcast, without naming it.
# To avoid it: Check that the mask broadcasts to (*query.shape[:-1], key.shape[-2]) before the call.

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

torch.default_generator.manual_seed(1)
query = torch.randn((4, 4, 2))
key = torch.randn((4, 6, 2))
mask = torch.arange(24).reshape((24,)) % 5 != 2
print("expected an error that names the mask: the right shape is (4, 6)")

try:
    result = torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
