# nn.MultiheadAttention ignores an adapter in the place of out_proj (pytorch/pytorch#78109).
# To avoid it: Leave out_proj in its place and change its weight by torch.nn.utils.parametrize.register_parametrization.
# To avoid it: Merge the update into the weight and bias of out_proj.

import copy
import sys

import torch

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
class Adapted(torch.nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.update = base, copy.deepcopy(base).requires_grad_(False)
        for learned, change in zip(base.parameters(), self.update.parameters()):
            learned.data.mul_(2)
            change.data.mul_(-1)

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    @property
    def eps(self):
        return self.base.eps

    def forward(self, values):
        return self.base(values) + self.update(values)

module = copy.deepcopy(module)

for path, part in list(module.named_modules()):
    owner, _, name = path.rpartition(".")
    if name == "out_proj":
        setattr(module.get_submodule(owner), name, Adapted(part))

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
