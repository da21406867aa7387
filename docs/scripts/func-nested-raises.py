# nn.TransformerEncoder with padding raises in eval mode under torch.func.vjp and jvp.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).
# To avoid it: Let every query see the first key. Make the module with batch_first=False, and give it inputs whose first
#     dimension is the length (before 2.5; if the input is a batch, and masks are bool or of the inputs' dtype; cost:
#     speed; other numbers, since the masks change).

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()
module.requires_grad_(False)
def differentiated(*given, **options):
    sequences = {id(tensor): tensor for tensor in given}  # identity marks self-attention
    tensors = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}
    parameters = dict(getattr(module, "named_parameters", dict)())
    everything = {**sequences, **tensors, **parameters}
    moving = {name: tensor for name, tensor in everything.items() if tensor.requires_grad}

    def call(moved):
        its = {**everything, **moved}
        sequences = tuple(its[id(tensor)] for tensor in given)
        others = {**options, **{name: its[name] for name in tensors}}
        if parameters:
            results = torch.func.functional_call(module, {name: its[name] for name in parameters}, sequences, others)
        else:
            results = module(*sequences, **others)
        results = results if type(results) is tuple else (results,)
        return tuple(result for result in results if result is not None)

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(context, *values):
            moved = dict(zip(moving, values))
            results, context.pull = torch.func.vjp(call, moved)
            return results

        @staticmethod
        def backward(context, *cotangents):
            return tuple(context.pull(cotangents)[0][name] for name in moving)

    if not moving or not torch.is_grad_enabled():
        return module(*given, **options)
    results = Differentiated.apply(*moving.values())
    return results if len(results) > 1 else results[0]

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]],
        [[-0.704, -1.265, -0.623, 0.041], [-2.325, -0.219, -1.246, -0.732]],
    ],
    dtype=torch.float64,
)

src_key_padding_mask = torch.tensor([[0.0, 0.0], [-inf, -inf]], dtype=torch.float64)

src_key_padding_mask.requires_grad_()

try:
    output = differentiated(src, src_key_padding_mask=src_key_padding_mask)
    output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
