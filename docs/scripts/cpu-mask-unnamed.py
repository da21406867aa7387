# A mask on the CPU beside inputs on CUDA is refused without naming it.
# To avoid it: Move the mask to the device of the inputs (not tested: needs a GPU).
# To avoid it: Compare the mask's device with that of the inputs before the call (not tested: needs a GPU).

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

torch.default_generator.manual_seed(0)
module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.default_generator.manual_seed(1)
src = torch.randn((2, 6, 4))
mask = torch.arange(36, device="meta").reshape((6, 6)) % 5 == 2
module.train()
print("expected an error that names the mask: the right shape is (6, 6)")

try:
    result = module(src, src, src, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
