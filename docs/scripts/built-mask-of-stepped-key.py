# A mask read at positions in a function for inductor cannot be built for a key with steps in memory.
# To avoid it: Give key.contiguous().
# To avoid it: Use torch.compile(..., backend="aot_eager") (if no query has every key masked by a number such as -1e9;
#     cost: speed).

import sys
import warnings

import torch
from torch import inf, nan

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
def reading(query, key, value, attn_mask=None, **options):  # a mask that is made of functions of positions
    if attn_mask is not None and attn_mask.ndim > 1:
        queries, keys = torch.arange(query.shape[-2])[:, None], torch.arange(key.shape[-2])
        rows = queries if attn_mask.shape[-2] > 1 else 0 * queries
        columns = keys if attn_mask.shape[-1] > 1 else 0 * keys
        read = attn_mask[..., rows, columns]
        attn_mask = (keys >= 0) & read if read.dtype is torch.bool else torch.where(keys >= 0, read, -torch.inf)
    return module(query, key, value, attn_mask, **options)

torch._dynamo.reset()
function = torch.compile(reading)

def longer(tensor, *axes):
    for axis in axes:
        tensor = torch.cat((tensor, tensor.narrow(axis, 0, 1)), axis)
    return tensor

def compiled(query, key, value, attn_mask=None, **options):
    others = [longer(its, -2) for its in (query, key, value)]
    if attn_mask is not None:
        axes = [axis for axis in (-2, -1) if attn_mask.ndim >= -axis and attn_mask.shape[axis] > 1]
        others.append(longer(attn_mask, *axes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(*others, **options)
        except Exception:  # only the next call is judged
            pass
    return function(query, key, value, attn_mask, **options)

query = torch.full((3, 3, 4, 4), nan, dtype=torch.float64)[1:-1, 1:-1, 1:-1, 1:-1:2]
query[:] = torch.tensor([[[[0.126], [-0.132]]]], dtype=torch.float64)
key = torch.full((3, 3, 4, 4), nan, dtype=torch.float64)[1:-1, 1:-1, 1:-1, 1:-1:2]
key[:] = torch.tensor([[[[0.64], [0.105]]]], dtype=torch.float64)
value = torch.full((3, 3, 4, 4), nan, dtype=torch.float64)[1:-1, 1:-1, 1:-1, 1:-1:2]
value[:] = torch.tensor([[[[-0.536], [0.362]]]], dtype=torch.float64)

attn_mask = torch.tensor([[True, True], [True, True]])

try:
    with torch.no_grad():
        compiled(query, key, value, attn_mask=attn_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
