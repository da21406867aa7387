# Attention written by hand loses its scale when compiled (pytorch/pytorch#174049).
# To avoid it: Multiply by 1 / s in the place of dividing by s, which inductor does not rewrite.
# To avoid it: Call torch.nn.functional.scaled_dot_product_attention with scale=1 / s (before 2.5 if no query is fully
#     masked; cost: zeros, not NaN, for a fully masked query).
# To avoid it: Use PyTorch 2.12, or a later release.

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch, "compile"):
    print("not applicable: this release has no torch.compile")
    sys.exit(2)

if torch.__version__ < "2.1":
    print("not applicable: this release has no such call, only 2.1 and later have")
    sys.exit(2)

if "scale=" not in torch.nn.functional.scaled_dot_product_attention.__doc__:
    print("not applicable: this release has no scale in torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
import math

from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import detect_fake_mode
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.virtualized import V

def attention(q, k, v, mask, factor):
    scores = q @ k.transpose(-2, -1) / factor
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ v

def rewritten(graph, inputs):  # as inductor rewrites it
    joint_graph_passes(graph)
    return graph

def partition(graph, inputs, **options):
    return min_cut_rematerialization_partition(rewritten(graph, inputs), inputs, **options)

def inductor_without_its_compiler(graph, inputs):
    passes = {"partition_fn": partition, "inference_compiler": lambda *given: make_boxed_func(rewritten(*given))}
    passes |= {"fw_compiler": lambda graph, _: make_boxed_func(graph), "decompositions": select_decomp_table()}
    with V.set_fake_mode(detect_fake_mode(inputs)):
        return aot_autograd(**passes)(graph, inputs)

torch._dynamo.reset()
compiled = torch.compile(attention, backend=inductor_without_its_compiler)

def written(query, key, value, attn_mask=None, scale=None):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return compiled(*(x.contiguous() for x in (query, key, value)), attn_mask, 1 / scale)

query = torch.tensor(
    [
        [[[0.126, -0.132], [0.64, 0.105]], [[-0.536, 0.362], [1.304, 0.947]]],
        [[[-0.704, -1.265], [-0.623, 0.041]], [[-2.325, -0.219], [-1.246, -0.732]]],
    ],
    dtype=torch.float64,
)
key = torch.tensor(
    [
        [[[-0.544, -0.316], [0.412, 1.043]], [[-0.129, 1.366], [-0.665, 0.352]]],
        [[[0.903, 0.094], [-0.743, -0.922]], [[-0.458, 0.22], [-1.01, -0.209]]],
    ],
    dtype=torch.float64,
)
value = torch.tensor(
    [
        [[[-0.159, 0.541], [0.215, 0.355]], [[-0.654, -0.13], [0.784, 1.493]]],
        [[[-1.259, 1.514], [1.346, 0.781]], [[0.264, -0.314], [1.458, 1.96]]],
    ],
    dtype=torch.float64,
)

attn_mask = torch.tensor([[0.0, -inf], [0.0, 0.0]], dtype=torch.float64)

with torch.no_grad():
    output = written(query, key, value, attn_mask=attn_mask, scale=2.0)

expected = torch.tensor(
    [
        [
            [[-0.159, 0.541], [0.14727732915961, 0.3886802587602]],
            [[-0.654, -0.13], [-0.60374881369456, -0.07328395314761]],
        ],
        [
            [[-1.259, 1.514], [1.02650593588881, 0.87089986525662]],
            [[0.264, -0.314], [1.31612739789551, 1.68980042111758]],
        ],
    ],
    dtype=torch.float64,
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-14, equal_nan=True)

sys.exit(bool(wrong))
