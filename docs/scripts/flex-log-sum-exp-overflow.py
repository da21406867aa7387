# The log-sum-exp of flex_attention is -inf beside masks of finfo.min.
# To avoid it: Hide the keys by mask_mod (from 2.6; if the BlockMask is that of create_block_mask).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

float32_min = torch.finfo(torch.float32).min

from torch.nn.attention.flex_attention import flex_attention

query = torch.tensor([[[[0.126, -0.132]]]])
key = torch.tensor([[[[0.64, 0.105]]]])
value = torch.tensor([[[[-0.536, 0.362]]]])

added_mask = torch.tensor([[[[float32_min]]]])

def score_mod(score, b, h, q_idx, kv_idx):
    return score + added_mask[b, h, q_idx, kv_idx]

with torch.no_grad():
    output, lse = flex_attention(query, key, value, score_mod=score_mod, return_lse=True)

expected = torch.tensor([[[[-0.536, 0.362]]]])
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=5e-06)

expected_lse = torch.tensor([[[float32_min]]])
print("expected lse", expected_lse)
print("got lse", lse)
wrong = wrong or lse is None or lse.shape != expected_lse.shape
wrong = wrong or not torch.allclose(lse, expected_lse, rtol=0, atol=2e+33)

sys.exit(bool(wrong))
