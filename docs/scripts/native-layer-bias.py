# nn.TransformerEncoderLayer with bias=False raises in eval mode (pytorch/pytorch#116385).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Use PyTorch 2.3, or a later release.

import inspect
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if "bias" not in inspect.signature(torch.nn.TransformerEncoderLayer).parameters:
    print("not applicable: this release has no bias in torch.nn.TransformerEncoderLayer")
    sys.exit(2)

module = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, bias=False, batch_first=True, dtype=torch.float64
)
module.eval()

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

try:
    with torch.no_grad():
        module(src)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
