# A fully masked query sees all keys on cuDNN's kernel.
# To avoid it: Give the mask as float, with -inf (cost: memory for the mask; not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor(
    [
        [
            [
                [0.126, -0.132, 0.64, 0.105, -0.536, 0.362, 1.304, 0.947],
                [-0.704, -1.265, -0.623, 0.041, -2.324, -0.219, -1.246, -0.732],
            ],
        ],
    ],
    dtype=torch.float16,
    device="cuda",
)
key = torch.tensor(
    [
        [
            [
                [-0.544, -0.316, 0.412, 1.043, -0.129, 1.366, -0.665, 0.352],
                [0.903, 0.094, -0.743, -0.922, -0.458, 0.22, -1.01, -0.209],
            ],
        ],
    ],
    dtype=torch.float16,
    device="cuda",
)
value = torch.tensor(
    [
        [
            [
                [-0.159, 0.541, 0.215, 0.355, -0.654, -0.13, 0.784, 1.493],
                [-1.259, 1.514, 1.346, 0.781, 0.264, -0.314, 1.458, 1.96],
            ],
        ],
    ],
    dtype=torch.float16,
    device="cuda",
)

attn_mask = torch.tensor([[False, False], [False, False]], device="cuda")

with torch.no_grad():
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

expected = torch.full((1, 1, 2, 8), 0.0, device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.0)
wrong = wrong or output[expected == 0].any()

sys.exit(bool(wrong))
