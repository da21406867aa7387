# nn.MultiheadAttention with both masks cannot be exported with dynamic shapes (pytorch/pytorch#149528).
# To avoid it: Give key_padding_mask before attn_mask, as the signature has them (if no query is fully masked).
# To avoid it: Export without dynamic_shapes (if no query is fully masked).
# To avoid it: Use PyTorch 2.8, or a later release.

import inspect
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "export"):
    print("not applicable: this release has no torch.export")
    sys.exit(2)

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
module.eval()
def dynamic(*given, **options):
    arguments = inspect.signature(module.forward).bind(*given, **options).arguments
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    sizes = {name: {axis: torch.export.Dim.AUTO for axis in range(tensor.ndim)} for name, tensor in tensors.items()}
    shapes = {name: sizes.get(name) for name in arguments}
    return torch.export.export(module, given, options, dynamic_shapes=shapes, strict=False).module()

programs = []

def exported(*given, **options):
    if not programs:
        programs.append(dynamic(*given, **options))
    return programs[0](*given, **options)

query = torch.tensor([[0.126], [-0.132]], dtype=torch.float64)
key = torch.tensor([[0.64], [0.105]], dtype=torch.float64)
value = torch.tensor([[-0.536], [0.362]], dtype=torch.float64)

attn_mask = torch.tensor([[False, False], [False, False]])
key_padding_mask = torch.tensor([False, False])

try:
    with torch.no_grad():
        exported(query, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
