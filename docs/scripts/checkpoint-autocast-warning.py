# torch.utils.checkpoint warns of a deprecated function that it calls itself (pytorch/pytorch#130659).
# To avoid it: Make the call without a checkpoint (cost: memory).
# To avoid it: Use PyTorch 2.5, or a later release.

import functools
import sys
import warnings

import torch
import torch.utils.checkpoint

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
state = {
    "in_proj_weight": [[0.103], [-0.981], [-0.817]],
    "out_proj.weight": [[-1.028]],
    "in_proj_bias": [-0.287, 0.986, 0.197],
    "out_proj.bias": [-0.001],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()
module.requires_grad_(False)

query = torch.tensor([[[0.126]]], dtype=torch.float64)

query.requires_grad_()
leaves = {"query": query}
cotangent_of_output = torch.tensor([[[-0.28]]], dtype=torch.float64)
cotangent_of_weights = torch.tensor([[[0.516]]], dtype=torch.float64)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    output, weights = (functools.partial(torch.utils.checkpoint.checkpoint, module, use_reentrant=False))(
        query, query, query
    )
    gradients = torch.autograd.grad(
        [output, weights], list(leaves.values()), [cotangent_of_output, cotangent_of_weights], allow_unused=True
    )

directions = {"query": [-0.6]}
slopes = {"query": 0.141099168}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 3e-14

messages = [str(warning.message) for warning in caught]
print("expected no warnings, got", messages)
sys.exit(bool(wrong or messages))
