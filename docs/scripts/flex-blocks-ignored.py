# flex_attention ignores the blocks of a BlockMask, unless it is compiled since 2.8.
# To avoid it: Give create_block_mask a mask_mod that hides the blocks.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import BlockMask, flex_attention

query = torch.tensor([[[[1.053, 1.776]]]], dtype=torch.float64)
key = torch.tensor([[[[-2.553, -0.138], [1.014, 1.352]]]], dtype=torch.float64)
value = torch.tensor([[[[0.654, 1.497], [0.29, 0.551]]]], dtype=torch.float64)

kept_mask = torch.tensor([[[[True, True]]]])

block_mask = BlockMask.from_kv_blocks(
    torch.tensor([[[1]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[[0, 1]]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[0]]], dtype=torch.int32, device=query.device),
    torch.tensor([[[[1, 0]]]], dtype=torch.int32, device=query.device),
    BLOCK_SIZE=(1, 1),
)

with torch.no_grad():
    output = flex_attention(query, key, value, block_mask=block_mask)

expected = torch.tensor([[[[0.654, 1.497]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14)

sys.exit(bool(wrong))
