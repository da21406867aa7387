# On CUDA nested tensors of float64 and bfloat16 warn of a slow conversion.
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed; not tested: needs a GPU).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost: speed;
#     not tested: needs a GPU).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded; not tested: needs a GPU).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower; not tested: needs a GPU).

import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

layer = torch.nn.TransformerEncoderLayer(
    d_model=2, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64, device="cuda"
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()

src = torch.tensor(
    [[[0.126, -0.132], [0.64, 0.105], [-0.536, 0.362]], [[1.304, 0.947], [-0.704, -1.265], [-0.623, 0.041]]],
    dtype=torch.float64,
    device="cuda",
)

src_key_padding_mask = torch.tensor([[False, False, False], [False, False, False]], device="cuda")

with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    module(src, src_key_padding_mask=src_key_padding_mask)

messages = [str(warning.message) for warning in caught]
print("expected no warnings, got", messages)
sys.exit(bool(messages))
