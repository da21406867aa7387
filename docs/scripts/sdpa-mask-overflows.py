# A number in a float32 mask beyond the range of bfloat16 or float16 becomes infinite.
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count).
# To avoid it: Use PyTorch 2.5, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch.nn, "attention"):
    print("not applicable: this release has no torch.nn.attention")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

float32_min = torch.finfo(torch.float32).min

query = torch.tensor([[[[0.12597656]]]], dtype=torch.bfloat16)
key = torch.tensor([[[[-0.13183594]]]], dtype=torch.bfloat16)
value = torch.tensor([[[[0.640625]]]], dtype=torch.bfloat16)

attn_mask = torch.tensor([[float32_min]])

with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[0.64]]]])
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.04)

sys.exit(bool(wrong))
