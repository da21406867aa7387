# A mask_mod or score_mod that reads a mask at an index with a number raises (pytorch/pytorch#154197).
# To avoid it: Take the part first: part = mask[:, 0], and part[b, q_idx, kv_idx] (from 2.6; if the BlockMask is that of
#     create_block_mask; before 2.7 if the numbers of features are equal powers of 2).
# To avoid it: Take the part first: part = mask[:, 0], and part[b, q_idx, kv_idx]; give a BLOCK_SIZE that divides the
#     lengths (in 2.5; if the BlockMask is that of create_block_mask; before 2.7 if the numbers of features are equal
#     powers of 2).
# To avoid it: Use PyTorch 2.11, or a later release.

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.tensor([[[[0.126, -0.132]], [[0.64, 0.105]]], [[[-0.536, 0.362]], [[1.304, 0.947]]]], dtype=torch.float64)
key = torch.tensor(
    [
        [[[-0.704, -1.265], [-0.623, 0.041]], [[-2.325, -0.219], [-1.246, -0.732]]],
        [[[-0.544, -0.316], [0.412, 1.043]], [[-0.129, 1.366], [-0.665, 0.352]]],
    ],
    dtype=torch.float64,
)
value = torch.tensor(
    [
        [[[0.903, 0.094], [-0.743, -0.922]], [[-0.458, 0.22], [-1.01, -0.209]]],
        [[[-0.159, 0.541], [0.215, 0.355]], [[-0.654, -0.13], [0.784, 1.493]]],
    ],
    dtype=torch.float64,
)

added_mask = torch.tensor([[[[False, True]]], [[[True, True]]]])

def score_mod(score, b, h, q_idx, kv_idx):
    return torch.where(added_mask[b, 0, q_idx, kv_idx], score, -float('inf'))

try:
    with torch.no_grad():
        flex_attention(query, key, value, score_mod=score_mod)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
