# Attention raises under autocast on CPU if it is given a mask, bias_k or static_k (pytorch/pytorch#99012).
# To avoid it: Make the call without torch.autocast (if masks are bool or of the inputs' dtype; before 2.5 if no query
#     is fully masked; cost: speed and memory).
# To avoid it: Use PyTorch 2.2, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True)
module.eval()

query = torch.tensor([[[0.126]]])
key = torch.tensor([[[-0.132]]])
value = torch.tensor([[[0.64]]])

key_padding_mask = torch.tensor([[False]])

try:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        module(query, key, value, key_padding_mask=key_padding_mask, need_weights=False)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
