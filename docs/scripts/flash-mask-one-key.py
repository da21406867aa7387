# A mask of size 1 over keys is read past its end (pytorch/pytorch#128816).
# To avoid it: Expand the mask to (..., L, S) and make it contiguous (cost: memory for the mask).
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept).
# To avoid it: Use PyTorch 2.5, or a later release.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor(
    [[[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947], [-0.704, -1.265, -0.623, 0.041]]]],
    dtype=torch.float64,
)
key = torch.tensor(
    [
        [
            [
                [-2.325, -0.219, -1.246, -0.732],
                [-0.544, -0.316, 0.412, 1.043],
                [-0.129, 1.366, -0.665, 0.352],
                [0.903, 0.094, -0.743, -0.922],
                [-0.458, 0.22, -1.01, -0.209],
            ],
        ],
    ],
    dtype=torch.float64,
)
value = torch.tensor(
    [
        [
            [
                [-0.159, 0.541, 0.215, 0.355],
                [-0.654, -0.13, 0.784, 1.493],
                [-1.259, 1.514, 1.346, 0.781],
                [0.264, -0.314, 1.458, 1.96],
                [1.802, 1.315, 0.357, -1.208],
            ],
        ],
    ],
    dtype=torch.float64,
)

attn_mask = torch.full((18,), nan, dtype=torch.float64)[:3].view(3, 1)
attn_mask[:] = torch.tensor([[-2.639], [-4.128], [-0.023]], dtype=torch.float64)

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.tensor(
    [
        [
            [
                [-0.09135022658356, 0.48651069782893, 0.86879561744317, 0.82465128473897],
                [-0.38027713586895, 0.45145307844304, 0.83185162648573, 0.92835697187152],
                [0.07317817014488, 0.5402507373728, 0.54750042714819, 0.47236315783692],
            ],
        ],
    ],
    dtype=torch.float64,
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14)

sys.exit(bool(wrong))
