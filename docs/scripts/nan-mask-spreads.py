# NaN in a mask of one layer spreads to queries from which the next layer hides it.
# To avoid it: Mask with torch.nan_to_num(mask), which puts 0 in the place of NaN (if no query is fully masked; cost:
#     other numbers, since the masks change).

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerDecoderLayer(
    d_model=4, nhead=1, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerDecoder(layer, 2)
state = {
    "layers.0.self_attn.in_proj_weight": [
        [0.099, -1.0, 0.479, 0.948],
        [0.305, 0.517, 0.139, -0.503],
        [0.811, 0.155, 0.427, 0.309],
        [0.229, 0.642, 0.459, -0.403],
        [-0.649, -0.494, 1.113, 1.104],
        [0.334, 0.173, -0.306, -0.418],
        [0.608, 0.348, 0.589, -0.75],
        [0.468, 0.268, 0.128, -0.613],
        [-0.057, -0.411, -0.011, 0.108],
        [0.082, -0.101, 0.084, 0.438],
        [-0.239, 0.649, 0.233, -0.024],
        [-0.433, -0.101, -0.251, -0.092],
    ],
    "layers.0.self_attn.out_proj.weight": [
        [-0.405, 0.319, -0.237, 0.075],
        [-0.653, -0.412, 0.244, 1.104],
        [0.098, -0.191, 0.229, 0.175],
        [1.042, -0.925, 0.532, 0.092],
    ],
    "layers.0.self_attn.in_proj_bias": [
        0.294, -0.443, 0.401, 0.539, 0.428, -0.636, -0.528, 0.208, 0.518, -0.217, -0.271, 0.368,
    ],
    "layers.0.self_attn.out_proj.bias": [-0.388, 0.123, 0.387, 0.25],
    "layers.0.linear1.weight": [[-0.498, -0.001, 0.12, 0.616]],
    "layers.0.linear2.weight": [[1.165], [0.836], [0.131], [-0.925]],
    "layers.0.linear1.bias": [-0.41],
    "layers.0.linear2.bias": [-0.597, 0.574, -0.415, -0.01],
    "layers.0.norm1.weight": [0.977, 1.05, 1.681, 0.771],
    "layers.0.norm1.bias": [-0.301, 0.038, -0.276, 0.087],
    "layers.0.norm2.weight": [0.998, 1.123, 1.107, 0.983],
    "layers.0.norm2.bias": [0.058, 0.568, 0.024, 0.383],
    "layers.0.multihead_attn.in_proj_weight": [
        [0.102, 0.21, 0.525, 0.622],
        [-0.001, 0.444, 0.881, 0.617],
        [-0.314, 0.131, -0.395, 0.703],
        [-0.236, 0.154, 0.02, 0.111],
        [0.623, 0.724, 0.014, 0.075],
        [-0.043, 0.996, -0.624, 0.04],
        [-0.083, 0.063, 0.324, -0.918],
        [0.257, -0.122, 0.227, 1.217],
        [0.074, -0.493, 0.208, 0.482],
        [-0.09, -0.242, 0.252, -0.286],
        [-0.057, -0.051, -0.052, 0.1],
        [0.912, -0.836, 0.783, 0.109],
    ],
    "layers.0.multihead_attn.out_proj.weight": [
        [0.341, -0.274, 0.09, -0.175],
        [0.517, 0.099, -0.22, 0.624],
        [-0.105, 0.247, 0.196, -0.401],
        [-0.546, -0.108, 0.203, -0.315],
    ],
    "layers.0.multihead_attn.in_proj_bias": [
        -0.524, -0.091, -0.147, -0.345, 0.089, -0.474, 0.574, -0.144, -0.251, 0.191, -0.156, -0.972,
    ],
    "layers.0.multihead_attn.out_proj.bias": [0.528, -0.517, -0.058, 0.322],
    "layers.0.norm3.weight": [0.967, 0.918, 1.244, 1.043],
    "layers.0.norm3.bias": [-0.609, 0.114, -0.135, -0.817],
    "layers.1.self_attn.in_proj_weight": [
        [0.603, 0.108, 0.106, 0.584],
        [0.26, 0.02, 0.675, -0.043],
        [-1.318, -0.324, 0.385, 0.016],
        [-0.415, -0.381, -0.386, -0.118],
        [1.297, 0.669, -0.993, 0.267],
        [0.226, 0.106, -0.39, -0.32],
        [-0.472, -0.307, -0.135, 0.193],
        [-0.027, -0.378, 0.266, 0.282],
        [0.41, 0.256, -0.132, -0.308],
        [0.313, -0.42, -0.218, -0.027],
        [-0.307, 0.069, 0.377, -0.304],
        [0.206, 0.675, -0.039, 0.125],
    ],
    "layers.1.self_attn.out_proj.weight": [
        [0.552, 0.153, -0.859, 0.86],
        [0.563, -0.235, 0.63, 0.258],
        [-0.382, -0.694, 0.277, -0.118],
        [0.281, 0.076, 0.594, 0.32],
    ],
    "layers.1.self_attn.in_proj_bias": [
        -0.834, -0.243, -0.522, -0.383, -0.195, -1.472, -1.05, 0.322, -0.863, -0.233, -0.253, -0.083,
    ],
    "layers.1.self_attn.out_proj.bias": [0.247, 0.338, 0.554, 0.407],
    "layers.1.linear1.weight": [[0.806, -0.329, 0.833, 0.396]],
    "layers.1.linear2.weight": [[-0.011], [-1.244], [0.7], [1.422]],
    "layers.1.linear1.bias": [-0.11],
    "layers.1.linear2.bias": [-0.13, -0.094, -0.003, 0.492],
    "layers.1.norm1.weight": [1.288, 0.899, 1.007, 0.99],
    "layers.1.norm1.bias": [0.301, 0.659, 0.262, 0.085],
    "layers.1.norm2.weight": [1.149, 0.924, 0.79, 1.084],
    "layers.1.norm2.bias": [-1.166, -0.005, -0.717, -0.352],
    "layers.1.multihead_attn.in_proj_weight": [
        [-0.576, -0.749, 0.061, -0.794],
        [-0.185, -0.474, -0.568, 0.571],
        [-0.326, -0.466, 0.432, 0.128],
        [0.516, 0.061, 0.84, 0.618],
        [-0.083, -0.038, -0.442, 0.483],
        [-0.177, 0.159, -0.198, -0.138],
        [0.376, 0.326, 0.73, 0.818],
        [-0.102, 0.332, 0.003, 0.342],
        [0.731, 0.062, -0.347, -0.128],
        [-0.44, 0.042, -0.294, -0.015],
        [-0.981, 0.103, 0.31, -0.429],
        [-0.336, 0.562, 0.232, -0.631],
    ],
    "layers.1.multihead_attn.out_proj.weight": [
        [0.517, -0.053, -0.371, 0.195],
        [0.17, -0.283, -0.442, -1.068],
        [-0.622, 0.428, 0.165, 0.556],
        [-0.847, 0.713, 1.636, 0.023],
    ],
    "layers.1.multihead_attn.in_proj_bias": [
        0.581, 0.066, 0.204, 0.451, -0.554, 0.115, 0.474, 0.574, -0.021, 0.735, 0.519, 0.721,
    ],
    "layers.1.multihead_attn.out_proj.bias": [-0.145, 0.436, -0.445, 0.76],
    "layers.1.norm3.weight": [0.883, 1.461, 1.235, 0.952],
    "layers.1.norm3.bias": [0.425, 0.226, -0.461, 0.355],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})

memory = torch.tensor([[[0.189, -0.523, -0.413, -2.441]]], dtype=torch.float64)
tgt = torch.tensor([[[1.8, 1.144, -0.325, 0.774], [0.281, -0.554, 0.978, -0.311]]], dtype=torch.float64)

tgt_mask = torch.tensor([[0.0, 0.0], [nan, 0.0]], dtype=torch.float64)
tgt_key_padding_mask = torch.tensor([[False, True]])

with torch.no_grad():
    output = module(tgt, memory, tgt_mask=tgt_mask, tgt_key_padding_mask=tgt_key_padding_mask)

expected = torch.tensor(
    [[[0.12856269364058, -0.7927225581037, -1.30191516947192, 1.98662961019829], [nan, nan, nan, nan]]],
    dtype=torch.float64,
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=5e-14, equal_nan=True)

sys.exit(bool(wrong))
