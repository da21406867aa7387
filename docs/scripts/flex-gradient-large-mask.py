# Gradients of flex_attention are wrong beside masks of -1e9 or finfo.min.
# To avoid it: Hide the keys by mask_mod (from 2.6; if the BlockMask is that of create_block_mask).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.tensor([[[[0.346, 0.822]]]], dtype=torch.float64)
key = torch.tensor([[[[0.33, -1.303], [0.905, 0.446]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.537, 0.581], [0.365, 0.294]]]], dtype=torch.float64)

added_mask = torch.tensor([[[[-1e+30, -1e+30]]]], dtype=torch.float64)

def score_mod(score, b, h, q_idx, kv_idx):
    return score + added_mask[b, h, q_idx, kv_idx]

added_mask.requires_grad_()
leaves = {"added_mask": added_mask}
cotangent_of_output = torch.tensor([[[[-0.11, 0.162]]]], dtype=torch.float64)

output = flex_attention(query, key, value, score_mod=score_mod)
gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"added_mask": [-1.201, 0.825]}
slopes = {"added_mask": -0.073804141}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 6e-15

sys.exit(bool(wrong))
