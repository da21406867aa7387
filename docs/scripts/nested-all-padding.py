# nn.TransformerEncoder raises if all samples are padding (pytorch/pytorch#178677).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (from 2.5;
#     if the input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (from 2.5; if
#     masks are bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if
#     no query is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.5; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).
# To avoid it: Let every query see the first key. Make the module with batch_first=False, and give it inputs whose first
#     dimension is the length (before 2.5; if the input is a batch, and masks are bool or of the inputs' dtype; cost:
#     speed; other numbers, since the masks change).
# To avoid it: Give a bool mask in which every query sees the first key, and make the encoder with
#     enable_nested_tensor=False (if the encoder is not part of nn.Transformer, and the activation is not
#     nn.GELU(approximate='tanh'); cost: other numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[True, True]])

try:
    with torch.no_grad():
        module(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
