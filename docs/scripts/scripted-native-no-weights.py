# nn.MultiheadAttention raises in eval mode if it is scripted and no weights are asked for.
# To avoid it: Call with need_weights=True (if no query is fully masked; cost: speed).
# To avoid it: Trace the module: torch.jit.trace (if no query is fully masked).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).

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

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
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

query = torch.tensor([[[0.126, -0.132]]], dtype=torch.float64)

try:
    with torch.no_grad():
        scripted(query, query, query, need_weights=False)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
