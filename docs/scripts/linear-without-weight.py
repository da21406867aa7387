# nn.TransformerEncoderLayer raises in eval mode if the module in the place of linear1 has no weight.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and no mask is empty, and masks are bool or of the inputs' dtype; before 2.5 if no query is
#     fully masked; cost: speed).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if no mask is empty, and masks are
#     bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost: global: every module of the process
#     leaves its fast path, which is slower).

import copy
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module.eval()
module = copy.deepcopy(module)

for path, part in list(module.named_modules()):
    owner, _, name = path.rpartition(".")
    if path == "out_proj" or name[:-1] == "linear":
        setattr(module.get_submodule(owner), name, torch.nn.Sequential(part))

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]], dtype=torch.float64)

try:
    with torch.no_grad():
        module(src)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
