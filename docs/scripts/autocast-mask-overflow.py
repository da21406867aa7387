# Under autocast a mask of finfo.min becomes -inf.
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count).
# To avoid it: Make the call without torch.autocast (if no input requires a gradient, and no query is fully masked
#     without the cast; cost: speed and memory).
# To avoid it: Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if
#     the mask is float (cost: other numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

float32_min = torch.finfo(torch.float32).min

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
key = torch.tensor([[[-0.132]]])
value = torch.tensor([[[0.64]]])

attn_mask = torch.tensor([[float32_min]])

with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
    output, weights = module(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[0.33]]])
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape or output.dtype != torch.bfloat16
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.03)

expected_weights = torch.tensor([[[1.0]]])
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape or weights.dtype != torch.bfloat16
wrong = wrong or not torch.allclose(weights.float(), expected_weights, rtol=0, atol=0.03)

sys.exit(bool(wrong))
