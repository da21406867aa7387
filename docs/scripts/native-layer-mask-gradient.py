# A float mask cannot be learned while the encoder layer's parameters are frozen.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).

import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module.eval()
module.requires_grad_(False)

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[0.0, -inf]], dtype=torch.float64)

src_key_padding_mask.requires_grad_()

try:
    output = module(src, src_key_padding_mask=src_key_padding_mask)
    if output.requires_grad:
        output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
