# nn.MultiheadAttention calls no hook of out_proj (pytorch/pytorch#78109).
# To avoid it: Register the hook on the attention, whose result is that of out_proj.

import copy
import sys

import torch
from torch.nn.utils import parametrize

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
class Doubled(torch.nn.Module):
    def forward(self, values):
        return 2 * values

def double(part):
    for name in ("weight", "bias"):
        if getattr(part, name) is not None:
            parametrize.register_parametrization(part, name, Doubled())

def halved(result):
    return (0.5 * result[0], *result[1:]) if type(result) is tuple else 0.5 * result

module = copy.deepcopy(module)

for path, part in list(module.named_modules()):
    name = path.rpartition(".")[2]
    if name == "out_proj":
        double(getattr(part, "out_proj", part))
        part.register_forward_hook(lambda part, given, result: halved(result))

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
