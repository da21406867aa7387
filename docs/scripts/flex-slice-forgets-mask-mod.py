# A slice of a BlockMask that is given no mask_mod hides nothing in flex_attention (pytorch/pytorch#163314).
# To avoid it: Give the slice a mask_mod that shifts the indices of the whole one.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import create_block_mask, flex_attention

query = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64, 0.105]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.536, 0.362]]]], dtype=torch.float64)

kept_mask = torch.tensor([[[[False]]], [[[False]]]])

def mask_mod(b, h, q_idx, kv_idx):
    return kept_mask[b, h, q_idx, kv_idx]
block_mask = create_block_mask(mask_mod, 2, None, 1, 1, device=query.device, BLOCK_SIZE=(1, 1))[1:]

with torch.no_grad():
    output = flex_attention(query, key, value, block_mask=block_mask)

expected = torch.tensor([[[[0.0, 0.0]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=0.0)
wrong = wrong or output[expected == 0].any()

sys.exit(bool(wrong))
