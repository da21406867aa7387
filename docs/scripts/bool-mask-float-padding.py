# A float padding mask given with a bool mask is read as a bool mask (pytorch/pytorch#92554).
# To avoid it: Add both masks, and give the sum as an attention mask of shape (N * num_heads, L, S) (if the module is
#     nn.MultiheadAttention, and no query is fully masked; cost: memory for the mask).
# To avoid it: Use PyTorch 2.0, or a later release.

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
key = torch.tensor([[[-0.132], [0.64]]], dtype=torch.float64)
value = torch.tensor([[[0.105], [-0.536]]], dtype=torch.float64)

attn_mask = torch.tensor([[False, False]])
key_padding_mask = torch.tensor([[1.619, 0.0]], dtype=torch.float64)

with torch.no_grad():
    output, weights = module(query, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask)

expected = torch.tensor([[[-0.2208485498062]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=4e-15)

expected_weights = torch.tensor([[[0.80399838645262, 0.19600161354738]]], dtype=torch.float64)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=2e-14)

sys.exit(bool(wrong))
