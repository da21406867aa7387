# flex_attention raises if there are no keys.
# To avoid it: Give one key, and hide it by mask_mod or score_mod (from 2.6).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.5":
    print("not applicable: this release has no such call, only 2.5 and later have")
    sys.exit(2)

from torch.nn.attention.flex_attention import flex_attention

query = torch.tensor([[[[0.126, -0.132]]]], dtype=torch.float64)
key = torch.zeros((1, 1, 0, 2), dtype=torch.float64)
value = torch.zeros((1, 1, 0, 2), dtype=torch.float64)

def score_mod(score, b, h, q_idx, kv_idx):
    score = 2.0 * torch.tanh(score / 2.0)
    return score

try:
    with torch.no_grad():
        flex_attention(query, key, value, score_mod=score_mod)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
