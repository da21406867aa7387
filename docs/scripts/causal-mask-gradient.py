# A causal float mask gets no gradient.
# To avoid it: Pass is_causal=False, or to a decoder tgt_is_causal=False (if the module is not nn.Transformer).
# To avoid it: Pass a float padding mask of zeros, too (cost: speed).

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=1, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
state = {
    "layers.0.self_attn.in_proj_weight": [
        [0.051, -0.49, -0.409, -0.514],
        [-0.287, 0.986, 0.197, -0.001],
        [-1.338, 0.971, 0.01, -1.131],
        [0.037, 0.108, 0.611, 0.015],
        [-0.637, 0.113, -0.193, -0.705],
        [0.152, 0.687, 0.491, -0.284],
        [-0.992, -0.411, -0.817, -0.032],
        [0.466, 1.519, 0.15, -0.601],
        [-0.109, 0.228, -0.005, -0.064],
        [0.039, 0.581, -0.225, -0.145],
        [-0.338, 0.065, 0.774, 0.155],
        [0.854, 0.308, 0.622, 0.524],
    ],
    "layers.0.self_attn.out_proj.weight": [
        [0.211, 0.184, -1.017, 0.225],
        [0.176, -0.316, -0.365, 0.32],
        [0.375, -0.558, -0.039, -0.058],
        [0.352, -0.704, -0.642, -0.255],
    ],
    "layers.0.self_attn.in_proj_bias": [
        -0.152, -0.249, 0.768, -1.591, 0.301, -0.083, 0.094, -0.315, 0.104, -0.081, 0.576, -0.17,
    ],
    "layers.0.self_attn.out_proj.bias": [1.22, -0.292, -0.71, 0.461],
    "layers.0.linear1.weight": [[0.195, 0.605, 0.526, -0.664]],
    "layers.0.linear2.weight": [[0.077], [0.569], [-1.3], [-2.422]],
    "layers.0.linear1.bias": [0.396],
    "layers.0.linear2.bias": [-0.131, 0.304, 0.525, -0.48],
    "layers.0.norm1.weight": [0.821, 1.273, 0.941, 1.11],
    "layers.0.norm1.bias": [-1.444, -0.324, 0.401, -0.273],
    "layers.0.norm2.weight": [0.868, 1.229, 0.983, 1.037],
    "layers.0.norm2.bias": [-0.245, 0.846, -0.446, -0.192],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

src_mask = torch.tensor([[0.0, -inf], [0.0, 0.0]], dtype=torch.float64)

src.requires_grad_()
src_mask.requires_grad_()
leaves = {"src_mask": src_mask}
cotangent_of_output = torch.tensor(
    [[[-0.28, 0.516, 0.617, 0.629], [-0.425, -1.361, -1.392, 1.385]]], dtype=torch.float64
)

output = module(src, mask=src_mask)
gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"src_mask": [0.18, -1.293, 0.71, -0.412]}
slopes = {"src_mask": 0.391497169866}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 2e-13

sys.exit(bool(wrong))
