# torch.func.jvp raises if a mask that has a tangent is expanded.
# To avoid it: Give mask.contiguous() (if weights are asked for, since the fused kernel has no forward-mode derivative,
#     and no query is fully masked, and masks are bool or of the inputs' dtype).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
module.eval()
module.requires_grad_(False)
def differentiated(*given, **options):
    parameters = dict(getattr(module, "named_parameters", dict)())
    everything = {id(value): value for value in (*given, *options.values(), *parameters.values())}
    moving = {key: value.detach() for key, value in everything.items() if hasattr(value, "tangent")}

    def call(moved):
        def its(value):  # identity marks self-attention
            return moved.get(id(value), value)

        tensors = tuple(its(tensor) for tensor in given)
        others = {name: its(value) for name, value in options.items()}
        if parameters:
            values = {name: its(parameter) for name, parameter in parameters.items()}
            results = torch.func.functional_call(module, values, tensors, others)
        else:
            results = module(*tensors, **others)
        results = results if type(results) is tuple else (results,)
        return tuple(result for result in results if result is not None)

    if not moving:
        return module(*given, **options)
    tangents = {key: everything[key].tangent for key in moving}
    results, tangents = torch.func.jvp(call, (moving,), (tangents,))
    for result, tangent in zip(results, tangents):
        result.tangent = tangent
    return results if len(results) > 1 else results[0]

query = torch.tensor([[[0.126]]], dtype=torch.float64)
key = torch.tensor([[[-0.132], [0.64]]], dtype=torch.float64)
value = torch.tensor([[[0.105], [-0.536]]], dtype=torch.float64)

attn_mask = torch.tensor([[0.0]], dtype=torch.float64)
attn_mask = attn_mask.expand(1, 2)

leaves = {"attn_mask": attn_mask}
directions = {"attn_mask": [-0.6, -0.351]}
for name, leaf in leaves.items():
    leaf.tangent = leaf.new_tensor(directions[name]).view_as(leaf)

try:
    differentiated(query, key, value, attn_mask=attn_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
