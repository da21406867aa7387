# nn.MultiheadAttention returns another dtype for an empty batch in eval mode under autocast on CPU.
# To avoid it: Make the call without torch.autocast (cost: speed and memory).
# To avoid it: Use PyTorch 2.2, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True)
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
module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
module.eval()

query = torch.zeros((0, 1, 2))

with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
    output, _ = module(query, query, query, need_weights=False)

expected = torch.zeros((0, 1, 2))
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape or output.dtype != torch.bfloat16
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.0)

sys.exit(bool(wrong))
