# On CUDA backward is an illegal memory access if only a float mask of one head requires a gradient
#     (pytorch/pytorch#148476).
# To avoid it: Let the query require a gradient, too (not tested: needs a GPU).

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]]], device="cuda")
key = torch.tensor(
    [
        [
            [
                [-0.704, -1.265, -0.623, 0.041],
                [-2.325, -0.219, -1.246, -0.732],
                [-0.544, -0.316, 0.412, 1.043],
                [-0.129, 1.366, -0.665, 0.352],
                [0.903, 0.094, -0.743, -0.922],
            ],
        ],
    ],
    device="cuda",
)
value = torch.tensor(
    [
        [
            [
                [-0.458, 0.22, -1.01, -0.209],
                [-0.159, 0.541, 0.215, 0.355],
                [-0.654, -0.13, 0.784, 1.493],
                [-1.259, 1.514, 1.346, 0.781],
                [0.264, -0.314, 1.458, 1.96],
            ],
        ],
    ],
    device="cuda",
)

attn_mask = torch.tensor([[0.0, -inf, -inf, -inf, -inf], [0.0, 0.0, -inf, -inf, -inf]], device="cuda")

attn_mask.requires_grad_()
leaves = {"attn_mask": attn_mask}
cotangent_of_output = torch.tensor([[[[-0.28, 0.516, 0.617, 0.629], [-0.425, -1.361, -1.392, 1.385]]]], device="cuda")

output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"attn_mask": [-0.6, -0.351, -1.004, 0.291, -1.564, -0.962, -2.344, -0.031, 0.18, -1.293]}
slopes = {"attn_mask": 0.51129}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.double().flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 5e-05

sys.exit(bool(wrong))
