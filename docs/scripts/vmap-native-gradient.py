# Inputs get no gradient through torch.func.vmap while the parameters are frozen (pytorch/pytorch#158610).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (not in
#     2.1, not in 2.2; if the input is a batch, and no query is fully masked, and masks are bool or of the inputs'
#     dtype; cost: speed).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if no query is fully masked, and
#     masks are bool or of the inputs' dtype; cost: global: every module of the process leaves its fast path, which is
#     slower).
# To avoid it: Make the call without torch.func.vmap (if no query is fully masked, and masks are bool or of the inputs'
#     dtype; cost: speed).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
module.eval()
module.requires_grad_(False)
def twice(*given, **options):
    mapped = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in options.items() if name not in mapped}
    unmapped = [*others.values(), *getattr(module, "parameters", tuple)()]
    learns = torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in unmapped)

    def pair(tensor):  # adds other contents: rolled rows, so that other positions are hidden
        other = tensor.detach()
        if learns:  # the same positions, as NaN of the other contents would reach gradients of what is not mapped
            other = other / 2 if other.is_floating_point() else other
        else:
            other = other.roll(1, -2) if other.ndim > 1 and other.shape[-2] > 1 else other.roll(1)
        return torch.stack([other, tensor], 0)

    def once(mapped, sequences):
        results = module(*(sequences[id(tensor)] for tensor in given), **mapped, **others)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    pairs = {name: pair(value) for name, value in mapped.items()}
    sequences = {id(tensor): pair(tensor) for tensor in given}  # identity marks self-attention
    results = torch.func.vmap(once, in_dims=(0, 0))(pairs, sequences)
    return tuple(result[1] for result in results) if type(results) is tuple else results[1]

query = torch.tensor([[[0.126, -0.132]]], dtype=torch.float64)

query.requires_grad_()

try:
    output, weights = twice(query, query, query)
    output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
