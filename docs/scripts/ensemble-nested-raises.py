# nn.TransformerEncoder with padding raises in eval mode if torch.func.vmap maps its parameters.
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).
# To avoid it: Let every query see the first key. Make the module with batch_first=False, and give it inputs whose first
#     dimension is the length (before 2.5; if the input is a batch, and masks are bool or of the inputs' dtype; cost:
#     speed; other numbers, since the masks change).

import copy
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.3":
    print("not applicable: this release has no such call, only 2.3 and later have")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()
hollow = copy.deepcopy(module).to("meta")

def ensemble(*given, **options):
    def once(parameters):
        results = torch.func.functional_call(hollow, parameters, given, options)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    pairs = {name: torch.stack([value / 2, value]).detach() for name, value in module.named_parameters()}
    results = torch.func.vmap(once)(pairs)
    return tuple(result[1] for result in results) if type(results) is tuple else results[1]

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]],
        [[-0.704, -1.265, -0.623, 0.041], [-2.325, -0.219, -1.246, -0.732]],
    ],
    dtype=torch.float64,
)

src_key_padding_mask = torch.tensor([[False, False], [True, True]])

try:
    with torch.no_grad():
        ensemble(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
