# create_block_mask raises for a length of 0.
# To avoid it: Call without a BlockMask (if the log-sum-exp is not asked for).
# To avoid it: Use PyTorch 2.10, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import create_block_mask, flex_attention

query = torch.zeros((1, 1, 0, 2), dtype=torch.float64)
key = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
value = torch.tensor([[[[0.64, 0.105]]]], dtype=torch.float64)

kept_mask = torch.zeros((1, 1, 0, 1), dtype=torch.bool)

def mask_mod(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx
block_mask = create_block_mask(mask_mod, None, None, 0, 1, device=query.device)

try:
    with torch.no_grad():
        flex_attention(query, key, value, block_mask=block_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
