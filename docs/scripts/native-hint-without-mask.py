# is_causal=True without a mask is ignored in eval.
# To avoid it: Give the causal mask itself (cost: memory for the mask).

import inspect
import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if "is_causal" not in inspect.signature(torch.nn.MultiheadAttention.forward).parameters:
    print("not applicable: this release has no is_causal in torch.nn.MultiheadAttention.forward")
    sys.exit(2)

torch.default_generator.manual_seed(0)
module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.default_generator.manual_seed(1)
src = torch.randn((2, 6, 4))
module.eval()
print("expected an error that names the mask: the right shape is (6, 6)")

try:
    with torch.no_grad():
        result = module(src, src, src, is_causal=True)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
