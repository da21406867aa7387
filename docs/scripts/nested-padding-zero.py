# nn.TransformerEncoder writes zeros into padded positions (pytorch/pytorch#132136).
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).
# To avoid it: Let every query see the first key. Make the module with batch_first=False, and give it inputs whose first
#     dimension is the length (before 2.5; if the input is a batch, and masks are bool or of the inputs' dtype; cost:
#     speed; other numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
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

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]],
        [[-0.704, -1.265, -0.623, 0.041], [-2.325, -0.219, -1.246, -0.732]],
    ],
    dtype=torch.float64,
)

src_key_padding_mask = torch.tensor([[False, False], [True, True]])

with torch.no_grad():
    output = module(src, src_key_padding_mask=src_key_padding_mask)

expected = torch.tensor(
    [
        [
            [-0.57180252102614, -0.41943510587688, 1.1801172426246, -0.44927199591808],
            [-1.50022236524175, 0.62637239983476, 0.87126730056307, 0.10330121138067],
        ],
        [
            [-0.6325252988433, -0.89384799338368, 0.2951079853543, 0.95719771750785],
            [-1.55104730198742, 2.20174512138848, -0.70889710232583, 0.50172995372424],
        ],
    ],
    dtype=torch.float64,
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=4e-14)

sys.exit(bool(wrong))
