# A fully masked query gives NaN on the fast paths (pytorch/pytorch#41508).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (from 2.5;
#     if the input is a batch, and no weights are asked for, and masks are bool or of the inputs' dtype; before 2.5 if
#     no query is fully masked; cost: speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (from 2.5; if
#     no weights are asked for, and masks are bool or of the inputs' dtype, and no query has every key masked by a
#     number such as -1e9; before 2.5 if no query is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.5; if no weights are asked for, and
#     masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost: global: every module of the
#     process leaves its fast path, which is slower).
# To avoid it: Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if
#     the mask is float (not in 2.0; before 2.1 if masks are bool; before 2.3 if layers have biases; cost: other
#     numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
state = {
    "in_proj_weight": [
        [0.073, -0.693],
        [-0.578, -0.727],
        [-0.406, 1.394],
        [0.278, -0.002],
        [-1.892, 1.374],
        [0.014, -1.6],
    ],
    "out_proj.weight": [[0.052, 0.152], [0.864, 0.022]],
    "in_proj_bias": [-0.637, 0.113, -0.193, -0.705, 0.152, 0.687],
    "out_proj.bias": [0.491, -0.284],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

query = torch.tensor([[[0.126, -0.132]]], dtype=torch.float64)

key_padding_mask = torch.tensor([[True]])

with torch.no_grad():
    output, _ = module(query, query, query, key_padding_mask=key_padding_mask, need_weights=False)

expected = torch.tensor([[[0.491, -0.284]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=6e-15)

sys.exit(bool(wrong))
