# Gradients are too large by the number of keys if all keys are masked with -1e9 or finfo.min.
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept).
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

float64_min = torch.finfo(torch.float64).min

query = torch.tensor([[[[0.126]]]], dtype=torch.float64)
key = torch.tensor([[[[-0.132], [0.64]]]], dtype=torch.float64)
value = torch.tensor([[[[0.105], [-0.536]]]], dtype=torch.float64)

attn_mask = torch.tensor([[float64_min, float64_min]], dtype=torch.float64)

query.requires_grad_()
key.requires_grad_()
value.requires_grad_()
leaves = {"query": query, "key": key, "value": value}
cotangent_of_output = torch.tensor([[[[-0.28]]]], dtype=torch.float64)

output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
gradients = torch.autograd.grad(output, list(leaves.values()), cotangent_of_output, allow_unused=True)

directions = {"query": [-0.6], "key": [-0.351, -1.004], "value": [0.291, -1.564]}
slopes = {"query": -0.020783784, "key": -0.00369181386, "value": 0.17822}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 2e-14

sys.exit(bool(wrong))
