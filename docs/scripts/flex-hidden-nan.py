# NaN in a hidden position makes queries NaN in flex_attention.
# To avoid it: Fill hidden positions with numbers, such as 0, before the call.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import create_block_mask, flex_attention

query = torch.tensor([[[[0.189, -0.523]]]], dtype=torch.float64)
key = torch.tensor([[[[-0.413, -2.441], [1.8, 1.144]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.325, 0.774], [nan, nan]]]], dtype=torch.float64)

kept_mask = torch.tensor([[[[True, False]]]])

def mask_mod(b, h, q_idx, kv_idx):
    return kept_mask[b, h, q_idx, kv_idx]
block_mask = create_block_mask(mask_mod, None, None, 1, 2, device=query.device, BLOCK_SIZE=(1, 1))

with torch.no_grad():
    output = flex_attention(query, key, value, block_mask=block_mask)

expected = torch.tensor([[[[-0.325, 0.774]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=1e-14, equal_nan=True)

sys.exit(bool(wrong))
