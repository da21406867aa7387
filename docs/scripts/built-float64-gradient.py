# The backward pass of attention in float64 raises if inductor has compiled it (pytorch/pytorch#185539).
# To avoid it: Use torch.compile(..., backend="aot_eager") (if no query has every key masked by a number such as -1e9;
#     cost: speed).
# To avoid it: Compute in float32 (if no query has every key masked by a number such as -1e9; cost: speed and memory).
# To avoid it: Use PyTorch 2.13, or a later release.

import sys
import warnings

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch, "compile"):
    print("not applicable: this release has no torch.compile")
    sys.exit(2)

if torch.__version__ < "2.6":
    print("not applicable: this release has no such call, only 2.6 and later have")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
torch._dynamo.reset()
function = torch.compile(module, backend="inductor")

def compiled(*given, **options):
    tensors = {id(value): value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)}

    def elsewhere(tensor, is_causal):
        memory = tensor.detach().as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
        place = (tensor.storage_offset(), tensor.shape, tensor.stride())
        other = tensor.new_empty(0).set_(memory.flip(0).untyped_storage(), *place)
        if is_causal and tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1] and 0 not in tensor.stride():
            other.copy_(torch.full_like(other, float("-inf")).triu(1))
        return other.requires_grad_(tensor.requires_grad)

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for is_causal in (True, False):  # the graph must not depend on the first contents
            with torch.inference_mode(False):
                its = {key: elsewhere(tensor, is_causal) for key, tensor in tensors.items()}
            others = {name: its.get(id(value), value) for name, value in options.items()}
            try:
                function(*(its[id(tensor)] for tensor in given), **others)
            except Exception:  # from contents that contradict a hint, say; only the next call is judged
                pass
    return function(*given, **options)

query = torch.tensor([[[[0.126], [-0.132]], [[0.64], [0.105]]]], dtype=torch.float64)
key = torch.tensor([[[[-0.536], [0.362]], [[1.304], [0.947]]]], dtype=torch.float64)
value = torch.tensor([[[[-0.704], [-1.265]], [[-0.623], [0.041]]]], dtype=torch.float64)

query.requires_grad_()
key.requires_grad_()
value.requires_grad_()

try:
    output = compiled(query, key, value, is_causal=True)
    output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
