# A mask of size 1 over keys raises on CUDA's efficient kernel (pytorch/pytorch#139424).
# To avoid it: Expand the mask to (..., L, S) and make it contiguous (cost: memory for the mask; not tested: needs a
#     GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126, -0.132, 0.64, 0.105]]]], device="cuda")
key = torch.tensor([[[[-0.536, 0.362, 1.304, 0.947], [-0.704, -1.265, -0.623, 0.041]]]], device="cuda")
value = torch.tensor([[[[-2.325, -0.219, -1.246, -0.732], [-0.544, -0.316, 0.412, 1.043]]]], device="cuda")

attn_mask = torch.full((3,), True)[:1].view(1, 1, 1, 1)
attn_mask[:] = torch.tensor([[[[True]]]])
attn_mask = attn_mask.to("cuda")

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[-1.68057, -0.2541, -0.64608, -0.08974]]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=2e-05)

sys.exit(bool(wrong))
