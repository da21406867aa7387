# is_causal=True with a scale of 0 or less gives NaN.
# To avoid it: Give a causal attn_mask in place of is_causal=True (cost: memory for the mask).
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if "scale=" not in torch.nn.functional.scaled_dot_product_attention.__doc__:
    print("not applicable: this release has no scale in torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126], [-0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64], [0.105]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.536], [0.362]]]], dtype=torch.float64)

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=-1.0)

expected = torch.tensor([[[[-0.536], [-0.102847604303635]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=8e-15)

sys.exit(bool(wrong))
