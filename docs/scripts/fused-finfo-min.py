# On CUDA a query whose keys are all masked by finfo.min gets 0 (pytorch/pytorch#110213).
# To avoid it: Mask with -100 in place of -1e9 or finfo.min (if no query is fully masked then; cost: other numbers if
#     every key is masked, since scores then count; not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

float32_min = torch.finfo(torch.float32).min

query = torch.tensor([[[[0.126, -0.132, 0.64, 0.105]]]], device="cuda")
key = torch.tensor([[[[-0.536, 0.362, 1.304, 0.947]]]], device="cuda")
value = torch.tensor([[[[-0.704, -1.265, -0.623, 0.041]]]], device="cuda")

attn_mask = torch.tensor([[float32_min]], device="cuda")

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[-0.704, -1.265, -0.623, 0.041]]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=1e-05)

sys.exit(bool(wrong))
