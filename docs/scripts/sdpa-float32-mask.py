# scaled_dot_product_attention takes a float32 mask beside a query of any dtype (pytorch/pytorch#191612).
# To avoid it: Give the mask as mask.to(query.dtype).
# To avoid it: Give the mask as bool (cost: a bool mask can only hide).

import re
import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

torch.default_generator.manual_seed(1)
query = torch.randn((4, 4, 2), dtype=torch.float64)
key = torch.randn((4, 6, 2), dtype=torch.float64)
mask = torch.randn((4, 6)).masked_fill(torch.arange(24).reshape((4, 6)) % 5 == 2, -torch.inf)
print("expected an error that names the mask: the right shape is (4, 6)")

try:
    result = torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
