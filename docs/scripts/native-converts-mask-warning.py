# The fast paths warn of a mask conversion that torch does itself (pytorch/pytorch#97532).
# To avoid it: Ignore the warning by warnings.filterwarnings (if the call is not compiled, exported, cast or
#     transformed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Use PyTorch 2.1, or a later release.

import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True, dtype=torch.float64)
module.eval()

query = torch.tensor([[[0.126, -0.132]]], dtype=torch.float64)

key_padding_mask = torch.tensor([[0.0]], dtype=torch.float64)

with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    module(query, query, query, key_padding_mask=key_padding_mask)

messages = [str(warning.message) for warning in caught]
print("expected no warnings, got", messages)
sys.exit(bool(messages))
