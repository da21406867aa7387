# nn.TransformerEncoder with padding raises in eval mode under autocast on CPU (pytorch/pytorch#107663).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (from 2.2;
#     if the input is a batch, and no query has every key masked by a number such as -1e9, and masks are bool or of the
#     inputs' dtype; before 2.5 if no query is fully masked; cost: speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (from 2.2; if
#     no query has every key masked by a number such as -1e9, and masks are bool or of the inputs' dtype; before 2.5 if
#     no query is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if no query has every key masked by
#     a number such as -1e9, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     global: every module of the process leaves its fast path, which is slower).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947], [-0.704, -1.265, -0.623, 0.041]],
        [[-2.325, -0.219, -1.246, -0.732], [-0.544, -0.316, 0.412, 1.043], [-0.129, 1.366, -0.665, 0.352]],
    ],
)

src_key_padding_mask = torch.tensor([[False, False, False], [False, False, False]])

try:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        module(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
