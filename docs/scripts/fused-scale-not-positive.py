# A scale of 0 or less gives NaN on CUDA.
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept; not tested: needs a
#     GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if "scale=" not in torch.nn.functional.scaled_dot_product_attention.__doc__:
    print("not applicable: this release has no scale in torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor(
    [[[[0.126, -0.132, 0.64, 0.105, -0.536, 0.362, 1.304, 0.947]]]], dtype=torch.float16, device="cuda"
)
key = torch.tensor(
    [[[[-0.704, -1.265, -0.623, 0.041, -2.324, -0.219, -1.246, -0.732]]]], dtype=torch.float16, device="cuda"
)
value = torch.tensor(
    [[[[-0.544, -0.316, 0.412, 1.043, -0.129, 1.366, -0.665, 0.352]]]], dtype=torch.float16, device="cuda"
)

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=-1.0)

expected = torch.tensor([[[[-0.54, -0.32, 0.41, 1.04, -0.13, 1.37, -0.67, 0.35]]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.02)

sys.exit(bool(wrong))
