# A module with bias=False cannot be scripted (pytorch/pytorch#149391).
# To avoid it: Trace the module: torch.jit.trace (if no query is fully masked).
# To avoid it: Export the module: torch.export.export (from 2.3; if no query is fully masked).
# To avoid it: Make the call without torch.jit.script (if no query is fully masked; cost: speed).

import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "jit"):
    print("not applicable: this release has no torch.jit")
    sys.exit(2)

if torch.__version__ < "2.1":
    print("not applicable: this release has no such call, only 2.1 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, bias=False, batch_first=True, dtype=torch.float64)
module.eval()
def optimized(function, *given, **options):
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            function(*given, **options)  # TorchScript profiles this call and optimises the next
        except Exception:  # only the next call is judged
            pass
    return function(*given, **options)

scripts = []

def scripted(*given, **options):
    if not scripts:
        scripts.append(torch.jit.script(module))
    return optimized(scripts[0], *given, **options)

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[-0.132]]], dtype=torch.float64)
value = torch.tensor([[[0.64]]], dtype=torch.float64)

try:
    with torch.no_grad():
        scripted(query, key, value)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
