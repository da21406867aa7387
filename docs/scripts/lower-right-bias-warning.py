# causal_lower_right warns of NaN for fully masked queries, whose output is 0 since 2.5.
# To avoid it: Ignore the warning by warnings.filterwarnings (from 2.5).
# To avoid it: Give the mask itself as attn_mask (from 2.5; cost: memory for the mask).
# To avoid it: Give the mask itself as attn_mask, and let every query see the first key (before 2.5; cost: memory for
#     the mask; other numbers, since the masks change).

import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if torch.__version__ < "2.3":
    print("not applicable: this release has no such call, only 2.3 and later have")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
from torch.nn.attention import bias

def biased(*given, **options):
    L, S = given[0].shape[-2], given[-1].shape[-2]
    attn_mask, is_causal = options.get("attn_mask"), options.get("is_causal", False)
    if (is_causal if L == S else attn_mask is not None and attn_mask.shape == (L, S)
            and (attn_mask == torch.ones_like(attn_mask).tril(S - L)).all()):
        options = {**options, "attn_mask": bias.causal_lower_right(L, S)}
        options.pop("is_causal", None)
    return module(*given, **options)

query = torch.tensor([[[[0.126], [-0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64]]]], dtype=torch.float64)
value = torch.tensor([[[[0.105]]]], dtype=torch.float64)

attn_mask = torch.tensor([[False], [True]])

with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    biased(query, key, value, attn_mask=attn_mask)

messages = [str(warning.message) for warning in caught]
print("expected no warnings, got", messages)
sys.exit(bool(messages))
