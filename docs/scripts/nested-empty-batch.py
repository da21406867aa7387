# nn.TransformerEncoder raises for an empty batch with padding.
# To avoid it: Leave out a mask that has no elements (if masks are bool or of the inputs' dtype).
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters, and no mask alone requires a
#     gradient; before 2.1 if masks are bool; before 2.3 if layers have biases; cost: speed).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()

src = torch.zeros((0, 2, 4), dtype=torch.float64)

src_key_padding_mask = torch.zeros((0, 2), dtype=torch.bool)

try:
    with torch.no_grad():
        module(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
