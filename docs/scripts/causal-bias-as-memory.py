# nn.MultiheadAttention and the native encoder layer read the uninitialised memory of a CausalBias.
# To avoid it: Give the mask itself: torch.ones(L, L, dtype=torch.bool).triu(1).

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn, "attention"):
    print("not applicable: this release has no torch.nn.attention")
    sys.exit(2)

import torch.nn.attention.bias

torch.default_generator.manual_seed(0)
module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.default_generator.manual_seed(1)
src = torch.randn((1, 6, 4))
mask = torch.nn.attention.bias.causal_lower_right(6, 6)
module.train()
print("expected an error that names the mask: the right shape is (6, 6)")

try:
    result = module(src, src, src, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
