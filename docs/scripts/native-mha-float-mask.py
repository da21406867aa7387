# nn.MultiheadAttention reads a float mask as a bool mask in eval mode (pytorch/pytorch#107084).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Use PyTorch 2.1, or a later release.

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

query = torch.tensor([[[0.126, -0.132], [0.64, 0.105]]], dtype=torch.float64)

key_padding_mask = torch.tensor([[1.619, 0.0]], dtype=torch.float64)

with torch.no_grad():
    output, weights = module(query, query, query, key_padding_mask=key_padding_mask)

expected = torch.tensor(
    [[[0.59910437067775, -0.58440255204337], [0.599689273755433, -0.583195887833769]]], dtype=torch.float64
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=1e-14)

expected_weights = torch.tensor(
    [[[0.83771646599962, 0.16228353400038], [0.84329876896612, 0.15670123103388]]], dtype=torch.float64
)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=2e-14)

sys.exit(bool(wrong))
