# A BlockMask that is adjusted to a part of a block does not fit (pytorch/pytorch#175533).
# To avoid it: Create a BlockMask of the new lengths.
# To avoid it: Use PyTorch 2.13, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.6":
    print("not applicable: this release has no such call, only 2.6 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import create_block_mask, flex_attention

query = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64, 0.105]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.536, 0.362]]]], dtype=torch.float64)

kept_mask = torch.full((1, 1, 3, 3), True)

def mask_mod(b, h, q_idx, kv_idx):
    return kept_mask[b, h, q_idx, kv_idx]
block_mask = create_block_mask(mask_mod, None, None, 3, 3, device=query.device, BLOCK_SIZE=(2, 2))._adjust(1, 1)

try:
    with torch.no_grad():
        flex_attention(query, key, value, block_mask=block_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
