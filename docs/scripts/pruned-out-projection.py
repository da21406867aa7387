# nn.MultiheadAttention computes with out_proj as it was at pruning time (pytorch/pytorch#78109).
# To avoid it: Make the pruning permanent by torch.nn.utils.prune.remove.
# To avoid it: Call module.out_proj on anything before each call of the module.

import copy
import sys

import torch
from torch.nn.utils import prune

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
module = copy.deepcopy(module)
for name, parameter in list(module.named_parameters()):
    path, _, leaf = name.rpartition(".")
    learned = parameter.detach().clone()
    parameter.data.mul_(2)
    prune.identity(module.get_submodule(path), leaf)
    parameter.data.copy_(learned)  # after pruning has read the doubled values

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[-0.132]]], dtype=torch.float64)
value = torch.tensor([[[0.64]]], dtype=torch.float64)

with torch.no_grad():
    output, weights = module(query, key, value)

expected = torch.tensor([[[0.33400464]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=6e-15)

expected_weights = torch.tensor([[[1.0]]], dtype=torch.float64)
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape
wrong = wrong or not torch.allclose(weights, expected_weights, rtol=0, atol=1e-14)

sys.exit(bool(wrong))
