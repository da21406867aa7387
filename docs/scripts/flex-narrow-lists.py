# BlockMask.from_kv_blocks raises for lists that are narrower than the keys (pytorch/pytorch#153344).
# To avoid it: Give create_block_mask a mask_mod that hides the blocks (before 2.7 if the numbers of features are equal
#     powers of 2).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.6":
    print("not applicable: this release has no such call, only 2.6 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import BlockMask, flex_attention

query = torch.tensor([[[[1.351, 0.343]]]], dtype=torch.float64)
key = torch.tensor([[[[-1.163, -0.187], [-0.339, -0.228], [0.597, -1.279]]]], dtype=torch.float64)
value = torch.tensor([[[[0.967, -1.128], [-0.188, 0.887], [0.664, -0.691]]]], dtype=torch.float64)

kept_mask = torch.tensor([[[[True, True, True]]]])

block_mask = BlockMask.from_kv_blocks(
    torch.tensor([[[1]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[[2]]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[0]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[[1]]]], dtype=torch.int32, device=query.device),
    BLOCK_SIZE=(1, 1),
    seq_lengths=(1, 3),
)

try:
    with torch.no_grad():
        flex_attention(query, key, value, block_mask=block_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
