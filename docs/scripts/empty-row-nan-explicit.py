# A fully masked query gives NaN if weights are computed explicitly (pytorch/pytorch#41508).
# To avoid it: Call with need_weights=False (from 2.5; if query, key and value are different tensors, or the module is
#     in training mode, or autograd records a parameter; cost: no weights are returned).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first, and call with need_weights=False (from 2.5;
#     cost: no weights are returned; global: every module of the process leaves its fast path, which is slower).
# To avoid it: Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if
#     the mask is float (cost: other numbers, since the masks change).

import sys

import torch

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
key = torch.tensor([[[-0.132]]], dtype=torch.float64)
value = torch.tensor([[[0.64]]], dtype=torch.float64)

attn_mask = torch.tensor([[True]])

with torch.no_grad():
    output, weights = module(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[-0.001]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=7e-17)

expected_weights = torch.tensor([[[0.0]]], dtype=torch.float64)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=0.0)
wrong = wrong or weights[expected_weights == 0].any()

sys.exit(bool(wrong))
