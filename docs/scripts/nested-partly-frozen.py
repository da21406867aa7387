# nn.TransformerEncoder raises in eval mode if its first layer is frozen and a later one is not.
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters, and masks are bool or of the inputs'
#     dtype; before 2.1 if masks are bool; before 2.3 if layers have biases; cost: speed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and no query has every key masked by a number such as -1e9, and masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if no query
#     has every key masked by a number such as -1e9, and masks are bool or of the inputs' dtype; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if no query has every key masked by
#     a number such as -1e9, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     global: every module of the process leaves its fast path, which is slower).
# To avoid it: Let every query see the first key. Make the module with batch_first=False, and give it inputs whose first
#     dimension is the length (before 2.5; if the input is a batch, and masks are bool or of the inputs' dtype; cost:
#     speed; other numbers, since the masks change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 2)
module.eval()
module.layers[:-1].requires_grad_(False)

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]],
        [[-0.704, -1.265, -0.623, 0.041], [-2.325, -0.219, -1.246, -0.732]],
    ],
    dtype=torch.float64,
)

src_key_padding_mask = torch.tensor([[False, False], [True, True]])

try:
    output = module(src, src_key_padding_mask=src_key_padding_mask)
    output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
