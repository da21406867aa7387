# A stack that was traced with a causal mask takes every mask for causal.
# To avoid it: Pass is_causal=False, or to a decoder tgt_is_causal=False (if the module is not nn.Transformer).
# To avoid it: Make the call without torch.jit.trace (cost: no trace).

import sys
import warnings

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "jit"):
    print("not applicable: this release has no torch.jit")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=2, nhead=1, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
state = {
    "layers.0.self_attn.in_proj_weight": [
        [0.073, -0.693],
        [-0.578, -0.727],
        [-0.406, 1.394],
        [0.278, -0.002],
        [-1.892, 1.374],
        [0.014, -1.6],
    ],
    "layers.0.self_attn.out_proj.weight": [[0.052, 0.152], [0.864, 0.022]],
    "layers.0.self_attn.in_proj_bias": [-0.637, 0.113, -0.193, -0.705, 0.152, 0.687],
    "layers.0.self_attn.out_proj.bias": [0.491, -0.284],
    "layers.0.linear1.weight": [[-1.402, -0.581]],
    "layers.0.linear2.weight": [[-1.635], [-0.064]],
    "layers.0.linear1.bias": [0.466],
    "layers.0.linear2.bias": [1.519, 0.15],
    "layers.0.norm1.weight": [0.699, 0.945],
    "layers.0.norm1.bias": [0.228, -0.005],
    "layers.0.norm2.weight": [0.968, 1.019],
    "layers.0.norm2.bias": [0.581, -0.225],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
def optimized(function, *given, **options):
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            function(*given, **options)  # TorchScript profiles this call and optimises the next
        except Exception:  # only the next call is judged
            pass
    return function(*given, **options)

def traced(*given, **options):
    sequences = list({id(tensor): tensor for tensor in given}.values())  # identity marks self-attention
    masks = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}

    class Call(torch.nn.Module):
        def forward(self, *tensors):
            its = dict(zip(map(id, sequences), tensors))
            moved = {**options, **dict(zip(masks, tensors[len(sequences) :]))}
            results = module(*(its[id(tensor)] for tensor in given), **moved)
            return tuple(result for result in results if result is not None) if type(results) is tuple else results

    call = Call()
    call.module = module
    is_kept = module is getattr(torch.nn.functional, "scaled_dot_product_attention", None)  # True keeps a position

    def other(name, mask):  # the trace must not depend on the contents of its masks
        result = torch.full_like(mask, is_kept)
        hidden = not is_kept if mask.dtype is torch.bool else float("-inf")
        if "padding" not in name and mask.ndim == 2 and mask.shape[0] == mask.shape[1]:
            result.masked_fill_(torch.ones_like(mask, dtype=torch.bool).triu(1), hidden)
        return result.requires_grad_(mask.requires_grad)

    others = [other(name, mask) for name, mask in masks.items()]
    with torch.random.fork_rng(devices=[]):
        call = torch.jit.trace(call.train(module.training), (*sequences, *others), check_trace=False)
    return optimized(call, *sequences, *masks.values())

src = torch.tensor([[[0.126, -0.132], [0.64, 0.105]]], dtype=torch.float64)

src_mask = torch.tensor([[False, False], [False, False]])

with torch.no_grad():
    output = traced(src, mask=src_mask)

expected = torch.tensor(
    [[[1.54899816257122, -1.24399806576454], [1.54899816257511, -1.24399806576863]]], dtype=torch.float64
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14)

sys.exit(bool(wrong))
