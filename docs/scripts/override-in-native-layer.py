# nn.TransformerEncoderLayer ignores overridden methods in eval mode.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).

import copy
import sys

import torch
from torch.nn.utils import parametrize

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
state = {
    "self_attn.in_proj_weight": [
        [0.051, -0.49, -0.409, -0.514],
        [-0.287, 0.986, 0.197, -0.001],
        [-1.338, 0.971, 0.01, -1.131],
        [0.037, 0.108, 0.611, 0.015],
        [-0.637, 0.113, -0.193, -0.705],
        [0.152, 0.687, 0.491, -0.284],
        [-0.992, -0.411, -0.817, -0.032],
        [0.466, 1.519, 0.15, -0.601],
        [-0.109, 0.228, -0.005, -0.064],
        [0.039, 0.581, -0.225, -0.145],
        [-0.338, 0.065, 0.774, 0.155],
        [0.854, 0.308, 0.622, 0.524],
    ],
    "self_attn.out_proj.weight": [
        [0.211, 0.184, -1.017, 0.225],
        [0.176, -0.316, -0.365, 0.32],
        [0.375, -0.558, -0.039, -0.058],
        [0.352, -0.704, -0.642, -0.255],
    ],
    "self_attn.in_proj_bias": [
        -0.152, -0.249, 0.768, -1.591, 0.301, -0.083, 0.094, -0.315, 0.104, -0.081, 0.576, -0.17,
    ],
    "self_attn.out_proj.bias": [1.22, -0.292, -0.71, 0.461],
    "linear1.weight": [[0.195, 0.605, 0.526, -0.664]],
    "linear2.weight": [[0.077], [0.569], [-1.3], [-2.422]],
    "linear1.bias": [0.396],
    "linear2.bias": [-0.131, 0.304, 0.525, -0.48],
    "norm1.weight": [0.821, 1.273, 0.941, 1.11],
    "norm1.bias": [-1.444, -0.324, 0.401, -0.273],
    "norm2.weight": [0.868, 1.229, 0.983, 1.037],
    "norm2.bias": [-0.245, 0.846, -0.446, -0.192],
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

def override(part, name):
    base = type(part)
    method = lambda self, *given, **options: halved(getattr(base, name)(self, *given, **options))
    part.__class__ = type("Own", (base,), {name: method})

for part in list(module.modules()):
    if isinstance(part, torch.nn.MultiheadAttention):
        double(part.out_proj)
        override(part, "forward")
    if isinstance(part, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        double(part.self_attn.out_proj)
        double(part.linear2)
        override(part, "_sa_block")
        override(part, "_ff_block")

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]], dtype=torch.float64)

with torch.no_grad():
    output = module(src)

expected = torch.tensor(
    [[[-0.37381343410891, -0.81794088962475, 0.99316176619717, -0.15233459601664]]], dtype=torch.float64
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14)

sys.exit(bool(wrong))
