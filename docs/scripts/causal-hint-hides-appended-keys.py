# is_causal=True hides the keys that add_bias_kv and add_zero_attn append.
# To avoid it: Leave out the hint.

import inspect
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if "is_causal" not in inspect.signature(torch.nn.MultiheadAttention.forward).parameters:
    print("not applicable: this release has no is_causal in torch.nn.MultiheadAttention.forward")
    sys.exit(2)

module = torch.nn.MultiheadAttention(
    embed_dim=1, num_heads=1, add_zero_attn=True, batch_first=True, dtype=torch.float64
)
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

attn_mask = torch.tensor([[False]])

with torch.no_grad():
    output, _ = module(query, key, value, attn_mask=attn_mask, is_causal=True, need_weights=False)

expected = torch.tensor([[[0.14109963911997]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=4e-15)

sys.exit(bool(wrong))
