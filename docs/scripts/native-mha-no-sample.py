# nn.MultiheadAttention raises for an empty batch in eval mode on CUDA (pytorch/pytorch#192651).
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

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

module = torch.nn.MultiheadAttention(embed_dim=16, num_heads=2, batch_first=True, dtype=torch.float64, device="cuda")
module.eval()

query = torch.zeros((0, 1, 16), dtype=torch.float64, device="cuda")

try:
    with torch.no_grad():
        module(query, query, query, need_weights=False)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
