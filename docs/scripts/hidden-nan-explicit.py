# NaN in a hidden position makes every query NaN if weights are computed explicitly (pytorch/pytorch#57721).
# To avoid it: Fill hidden positions with numbers, such as 0, before the call.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
state = {
    "in_proj_weight": [[0.103], [-0.981], [-0.817]],
    "out_proj.weight": [[-1.028]],
    "in_proj_bias": [-0.287, 0.986, 0.197],
    "out_proj.bias": [-0.001],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[nan], [0.64]]], dtype=torch.float64)
value = torch.tensor([[[nan], [-0.536]]], dtype=torch.float64)

key_padding_mask = torch.tensor([[True, False]])

with torch.no_grad():
    output, weights = module(query, key, value, key_padding_mask=key_padding_mask)

expected = torch.tensor([[[-0.653689536]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=9e-15, equal_nan=True)

expected_weights = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=1e-14, equal_nan=True)
wrong = wrong or weights[expected_weights == 0].any()

sys.exit(bool(wrong))
