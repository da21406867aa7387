# In float16 a query whose visible keys are all masked by finfo.min may give NaN.
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count).
# To avoid it: Compute in float32 (cost: speed and memory).

import sys

import torch
from torch import inf, nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

float16_min = torch.finfo(torch.float16).min

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float16)
state = {
    "in_proj_weight": [[0.426], [-1.191], [-1.149]],
    "out_proj.weight": [[0.781]],
    "in_proj_bias": [-0.351, 0.179, -0.883],
    "out_proj.bias": [0.423],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float16) for name, values in state.items()})
module.eval()

query = torch.tensor([[[-25.66], [-1.324]]], dtype=torch.float16)

attn_mask = torch.tensor([[float16_min, float16_min], [float16_min, float16_min]], dtype=torch.float16)
key_padding_mask = torch.tensor([[-inf, 0.0]], dtype=torch.float16)

with torch.no_grad():
    output, weights = module(query, query, query, attn_mask=attn_mask, key_padding_mask=key_padding_mask)

expected = torch.tensor([[[nan], [0.922]]])
print("expected output", expected)
print("got output", output)
counts = ~expected.isnan()  # nan: not compared, as rounding decides
wrong = output.shape != expected.shape or not output.isfinite().all()
wrong = wrong or not torch.allclose(output.float()[counts], expected[counts], rtol=0, atol=0.008)

expected_weights = torch.tensor([[[nan, nan], [0.0, 1.0]]])
print("expected weights", expected_weights)
print("got weights", weights)
counts = ~expected_weights.isnan()  # nan: not compared, as rounding decides
wrong = wrong or weights is None or weights.shape != expected_weights.shape or not weights.isfinite().all()
wrong = wrong or not torch.allclose(weights.float()[counts], expected_weights[counts], rtol=0, atol=0.005)
wrong = wrong or weights[expected_weights == 0].any()

sys.exit(bool(wrong))
