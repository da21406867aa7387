# On fake tensors nn.MultiheadAttention returns weights that were not asked for.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).

import sys

import torch
from torch._subclasses import FakeTensorMode

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
module.eval()
def faked(*given, **options):
    def described(results):
        results = results if type(results) is tuple else (results,)
        return [(result.shape, result.dtype, result.device) for result in results if result is not None]

    is_module = isinstance(module, torch.nn.Module)
    parameters = dict(module.named_parameters()) if is_module else {}
    with FakeTensorMode() as fakes:
        tensors = [value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)]
        its = {id(tensor): fakes.from_tensor(tensor) for tensor in (*tensors, *parameters.values())}
        values = {name: its[id(tensor)] for name, tensor in parameters.items()}
        others = {name: its.get(id(value), value) for name, value in options.items()}
        sequences = tuple(its[id(tensor)] for tensor in given)
        if is_module:
            fake = torch.func.functional_call(module, values, sequences, others)
        else:
            fake = module(*sequences, **others)
    results = module(*given, **options)
    assert described(fake) == described(results), f"{described(fake)} is not {described(results)}"
    return results

query = torch.tensor([[[0.126, -0.132]]], dtype=torch.float64)

try:
    with torch.no_grad():
        faked(query, query, query, need_weights=False)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
