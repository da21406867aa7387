# nn.MultiheadAttention raises if the module in the place of out_proj has no weight.
# To avoid it: Leave out_proj in its place and change its weight by torch.nn.utils.parametrize.register_parametrization
#     (not in 2.0; if no query is fully masked, and masks are bool or of the inputs' dtype; before 2.1 if masks are
#     bool; before 2.3 if layers have biases).

import copy
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
module.eval()
module = copy.deepcopy(module)

for path, part in list(module.named_modules()):
    owner, _, name = path.rpartition(".")
    if path == "out_proj" or name[:-1] == "linear":
        setattr(module.get_submodule(owner), name, torch.nn.Sequential(part))

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[-0.132]]], dtype=torch.float64)
value = torch.tensor([[[0.64]]], dtype=torch.float64)

try:
    with torch.no_grad():
        module(query, key, value)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
