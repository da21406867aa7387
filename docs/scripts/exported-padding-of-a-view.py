# nn.TransformerEncoder with padding cannot be exported in eval mode if src has gaps in memory.
# To avoid it: Give src.contiguous().
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed).
# To avoid it: Use PyTorch 2.6, or a later release.

import sys

import torch
from torch import nan

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "export"):
    print("not applicable: this release has no torch.export")
    sys.exit(2)

if torch.__version__ < "2.3":
    print("not applicable: this release has no such call, only 2.3 and later have")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()
class Call(torch.nn.Module):
    def forward(self, *given, **options):
        return module(*given, **options)

programs = []

def exported(*given, **options):
    if not programs:
        what = module if isinstance(module, torch.nn.Module) else Call()
        programs.append(torch.export.export(what, given, options, strict=False).module())
    return programs[0](*given, **options)

src = torch.full((3, 4, 6), nan, dtype=torch.float64)[1:-1, 1:-1, 1:-1]
src[:] = torch.tensor([[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[False, False]])

try:
    with torch.no_grad():
        exported(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
