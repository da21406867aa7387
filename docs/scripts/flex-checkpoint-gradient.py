# Gradients of flex_attention in torch.utils.checkpoint are garbage if score_mod has a derivative.
# To avoid it: Make the call without a checkpoint (cost: memory).

import functools
import sys

import torch
import torch.utils.checkpoint

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64, 0.105], [-0.536, 0.362]]]], dtype=torch.float64)
value = torch.tensor([[[[1.304, 0.947], [-0.704, -1.265]]]], dtype=torch.float64)

added_mask = torch.tensor([[[[-2.639, -4.128]]]], dtype=torch.float64)

def score_mod(score, b, h, q_idx, kv_idx):
    return score + added_mask[b, h, q_idx, kv_idx]

added_mask.requires_grad_()
leaves = {"added_mask": added_mask}
cotangent_of_output = torch.tensor([[[[-0.28, 0.516]]]], dtype=torch.float64)

output = (functools.partial(torch.utils.checkpoint.checkpoint, module, use_reentrant=False))(
    query, key, value, score_mod=score_mod
)
gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"added_mask": [-0.6, -0.351]}
slopes = {"added_mask": -0.0199179457877}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 3e-14

sys.exit(bool(wrong))
