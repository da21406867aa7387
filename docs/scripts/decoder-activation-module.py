# nn.TransformerDecoder and nn.Transformer compute ReLU if their activation is a module.
# To avoid it: Give the activation as a function: functools.partial(torch.nn.functional.gelu, approximate='tanh') (if
#     the activation is nn.GELU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerDecoderLayer(
    d_model=4,
    nhead=2,
    dim_feedforward=1,
    dropout=0.0,
    activation=torch.nn.GELU(approximate="tanh"),
    batch_first=True,
    dtype=torch.float64,
)
module = torch.nn.TransformerDecoder(layer, 1)
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
    "layers.0.multihead_attn.in_proj_weight": [
        [0.356, 0.154, 0.292, 0.632],
        [0.323, -1.111, -0.156, 0.028],
        [1.156, -0.036, -0.016, -0.634],
        [-0.247, 0.297, -0.315, 0.431],
        [-0.517, 0.068, -0.363, -0.032],
        [-0.093, -0.092, 0.171, -0.341],
        [0.194, -0.294, -0.132, 0.247],
        [-0.664, 0.082, -0.161, 0.094],
        [0.996, 0.51, -0.636, -0.32],
        [1.044, -0.119, 0.189, -0.188],
        [0.743, 0.496, 0.241, -0.202],
        [-0.423, 0.001, -0.219, -0.291],
    ],
    "layers.0.multihead_attn.out_proj.weight": [
        [0.537, 0.116, 0.124, -0.204],
        [-0.291, 1.012, -0.734, -0.002],
        [-0.248, 0.296, 0.621, -0.82],
        [-0.339, -0.378, -0.469, -0.095],
    ],
    "layers.0.multihead_attn.in_proj_bias": [
        -0.063, -0.868, -0.435, -1.188, 0.199, 0.182, -0.415, 0.517, 0.138, -0.294, -0.33, 0.122,
    ],
    "layers.0.multihead_attn.out_proj.bias": [0.45, 0.589, -0.473, -0.797],
    "layers.0.norm3.weight": [1.179, 1.265, 0.813, 1.37],
    "layers.0.norm3.bias": [-0.581, -0.782, -0.912, -0.109],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

memory = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]], dtype=torch.float64)
tgt = torch.tensor([[[-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

with torch.no_grad():
    output = module(tgt, memory)

expected = torch.tensor(
    [[[-1.04007669632674, 1.0754840085033, -0.74489211797924, -1.86881093111162]]], dtype=torch.float64
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=4e-14)

sys.exit(bool(wrong))
