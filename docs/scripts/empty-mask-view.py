# A mask raises if there is no sample or no key.
# To avoid it: Leave out a mask that has no elements (if masks are bool or of the inputs' dtype).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
module.eval()

query = torch.zeros((0, 1, 1), dtype=torch.float64)
key = torch.zeros((0, 1, 1), dtype=torch.float64)
value = torch.zeros((0, 1, 1), dtype=torch.float64)

key_padding_mask = torch.zeros((0, 1), dtype=torch.bool)

try:
    with torch.no_grad():
        module(query, key, value, key_padding_mask=key_padding_mask, need_weights=False)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
