# NaN in a hidden position makes every query NaN on the fast paths (pytorch/pytorch#57721).
# To avoid it: Fill hidden positions with numbers, such as 0, before the call (not in 2.0; before 2.1 if masks are bool;
#     before 2.3 if layers have biases).

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
state = {
    "in_proj_weight": [
        [0.073, -0.693],
        [-0.578, -0.727],
        [-0.406, 1.394],
        [0.278, -0.002],
        [-1.892, 1.374],
        [0.014, -1.6],
    ],
    "out_proj.weight": [[0.052, 0.152], [0.864, 0.022]],
    "in_proj_bias": [-0.637, 0.113, -0.193, -0.705, 0.152, 0.687],
    "out_proj.bias": [0.491, -0.284],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

query = torch.tensor([[[nan, nan], [0.64, 0.105]]], dtype=torch.float64)

key_padding_mask = torch.tensor([[True, False]])

with torch.no_grad():
    output, weights = module(query, query, query, key_padding_mask=key_padding_mask)

expected = torch.tensor([[[nan, nan], [0.5236902, -1.06260792]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14, equal_nan=True)

expected_weights = torch.tensor([[[nan, nan], [0.0, 1.0]]], dtype=torch.float64)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=2e-14, equal_nan=True)
wrong = wrong or weights[expected_weights == 0].any()

sys.exit(bool(wrong))
