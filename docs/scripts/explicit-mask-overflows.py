# A number in a float mask beyond the range of the inputs' dtype becomes infinite.
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

float64_min = torch.finfo(torch.float64).min

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True)
state = {
    "in_proj_weight": [[0.103], [-0.981], [-0.817]],
    "out_proj.weight": [[-1.028]],
    "in_proj_bias": [-0.287, 0.986, 0.197],
    "out_proj.bias": [-0.001],
}
module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
module.eval()

query = torch.tensor([[[0.126]]])
key = torch.tensor([[[-0.132], [0.64]]])
value = torch.tensor([[[0.105], [-0.536]]])

attn_mask = torch.tensor([[float64_min, float64_min]], dtype=torch.float64)

with torch.no_grad():
    output, weights = module(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[-0.384509]]])
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-06)

expected_weights = torch.tensor([[[0.5, 0.5]]])
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=4e-06)

sys.exit(bool(wrong))
