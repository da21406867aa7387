# BlockMask._adjust raises for some masks if it cuts off several blocks (pytorch/pytorch#186186).
# To avoid it: Create a BlockMask of the new lengths (before 2.7 if the numbers of features are equal powers of 2).
# To avoid it: Use PyTorch 2.14, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.6":
    print("not applicable: this release has no such call, only 2.6 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import create_block_mask, flex_attention

query = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64, 0.105], [-0.536, 0.362]]]], dtype=torch.float64)
value = torch.tensor([[[[1.304, 0.947], [-0.704, -1.265]]]], dtype=torch.float64)

kept_mask = torch.tensor(
    [
        [
            [
                [False, False, False, True, False],
                [False, True, False, False, False],
                [False, False, False, False, True],
                [False, False, False, False, True],
            ],
        ],
    ],
)

def mask_mod(b, h, q_idx, kv_idx):
    return kept_mask[b, h, q_idx, kv_idx]
block_mask = create_block_mask(mask_mod, None, None, 4, 5, device=query.device, BLOCK_SIZE=(1, 1))._adjust(1, 2)

try:
    with torch.no_grad():
        flex_attention(query, key, value, block_mask=block_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
