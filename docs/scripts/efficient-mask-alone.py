# On CUDA backward raises if only a float mask requires a gradient (pytorch/pytorch#148476).
# To avoid it: Let the query require a gradient, too (not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126, -0.132, 0.64, 0.105]], [[-0.536, 0.362, 1.304, 0.947]]]], device="cuda")
key = torch.tensor([[[[-0.704, -1.265, -0.623, 0.041]], [[-2.325, -0.219, -1.246, -0.732]]]], device="cuda")
value = torch.tensor([[[[-0.544, -0.316, 0.412, 1.043]], [[-0.129, 1.366, -0.665, 0.352]]]], device="cuda")

attn_mask = torch.tensor([[0.0]], device="cuda")

attn_mask.requires_grad_()
leaves = {"attn_mask": attn_mask}
cotangent_of_output = torch.tensor([[[[-0.28, 0.516, 0.617, 0.629]], [[-0.425, -1.361, -1.392, 1.385]]]], device="cuda")

output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
gradients = [None] * len(leaves)
if output.requires_grad:
    gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"attn_mask": [-0.6]}
slopes = {"attn_mask": 0.0}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.double().flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 6e-05

sys.exit(bool(wrong))
