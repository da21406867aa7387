# A float32 mask with a float64 query skips the second half of each vector of keys.
# To avoid it: Give the mask as mask.to(query.dtype).
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept).

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.126]]]], dtype=torch.float64)
key = torch.tensor(
    [
        [
            [
                [-0.132],
                [0.64],
                [0.105],
                [-0.536],
                [0.362],
                [1.304],
                [0.947],
                [-0.704],
                [-1.265],
                [-0.623],
                [0.041],
                [-2.325],
                [-0.219],
                [-1.246],
                [-0.732],
                [-0.544],
            ],
        ],
    ],
    dtype=torch.float64,
)
value = torch.tensor(
    [
        [
            [
                [-0.316],
                [0.412],
                [1.043],
                [-0.129],
                [1.366],
                [-0.665],
                [0.352],
                [0.903],
                [0.094],
                [-0.743],
                [-0.922],
                [-0.458],
                [0.22],
                [-1.01],
                [-0.209],
                [-0.159],
            ],
        ],
    ],
    dtype=torch.float64,
)

attn_mask = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -inf]])

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[0.015534355030765]]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=9e-16)

sys.exit(bool(wrong))
