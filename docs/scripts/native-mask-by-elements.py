# The native paths take an attention mask of any shape with the right number of elements.
# To avoid it: Compare the mask's shape with the lengths before the call.
# To avoid it: Try the call once in training mode, where the error names the mask (if no hint is given).

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

torch.default_generator.manual_seed(0)
module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.default_generator.manual_seed(1)
src = torch.randn((2, 6, 4))
mask = torch.arange(36).reshape((36,)) % 5 == 2
module.eval()
print("expected an error that names the mask: the right shape is (6, 6)")

try:
    with torch.no_grad():
        result = module(src, src, src, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
